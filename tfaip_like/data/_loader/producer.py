"""Where batches are made: in this process or in data processes, and how many of those pay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tfaip_like._utils.errors import pluralize
from tfaip_like.data._settings import LoaderSettings
from tfaip_like.data._workers.background import iterate_in_thread
from tfaip_like.data._workers.parallel_map import choose_num_workers
from tfaip_like.data._workers.pool import NotPicklableError, WorkerPool
from tfaip_like.data._workers.process import WorkerFunction

logger = logging.getLogger(__name__)


class BatchProducer:
    """Does work on tasks, and gives the results in their order.

    Args:
        group: of the flags: for messages.
        check: called while waiting for results; raises to stop.

    Attributes:
        workers: the data processes, once they are started.
    """

    def __init__(self, settings: LoaderSettings, group: str, check: Callable[[], None]):
        self.settings = settings
        self.group = group
        self.check = check
        self.workers: WorkerPool | None = None
        self._num_workers = settings.num_processes or 0
        self._is_memory_logged = False

    def auto_select_num_workers(self, seconds: float) -> None:
        """Chooses the number of processes for work that takes so long in one, unless the user has."""
        if self.settings.num_processes is None:
            self._num_workers = choose_num_workers(seconds)

    def run(self, work: WorkerFunction, tasks: Iterable[Any], batches_per_task: int = 1) -> Iterator[Any]:
        """Return the results of all tasks, each of which makes `batches_per_task` batches; see `Workers.run`."""
        if not self._num_workers or (workers := self._start_pool(work, batches_per_task)) is None:
            return iterate_in_thread((work(task) for task in tasks if task is not None), self.check)
        return self._log_memory_once(workers, workers.run(iterate_in_thread(iter(tasks), self.check)))

    @property
    def max_batches_per_task(self) -> int:
        """Most batches that one task may make, so that `prefetch` is kept."""
        return max(1, self.settings.prefetch // (self._num_workers + 1))

    def close(self) -> None:
        """Ends the data processes."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None

    def _start_pool(self, work: WorkerFunction, batches_per_task: int) -> WorkerPool | None:
        if self.workers is None:
            max_outstanding = max(self._num_workers + 1, self.settings.prefetch // batches_per_task)
            try:
                self.workers = WorkerPool(
                    work, self._num_workers, max_outstanding, self.settings.timeout_seconds, self.check
                )
            except NotPicklableError as error:
                if self.settings.num_processes is not None:
                    raise
                self._num_workers = 0
                logger.warning("--%s data are made in the main process: %s", self.group, error)
        return self.workers

    def _log_memory_once(self, workers: WorkerPool, results: Iterator[Any]) -> Iterator[Any]:
        """The results; says how much memory is shared when all of it is in use."""
        for number, result in enumerate(results):
            if not self._is_memory_logged and number == workers.max_outstanding:
                self._is_memory_logged = True
                processes = f"{workers.num_workers} data processes" if workers.num_workers > 1 else "1 data process"
                logger.info(
                    "--%s: %s, %s ahead, %.3g MB shared",
                    self.group,
                    processes,
                    pluralize(workers.max_outstanding, "task"),
                    workers.nbytes() / 1e6,
                )
            yield result
