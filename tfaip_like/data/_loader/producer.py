"""Execution of batch tasks: in this process or in data workers."""

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
from tfaip_like.data._workers.process_pool import ProcessPool
from tfaip_like.data._workers.thread_pool import ThreadPool
from tfaip_like.data._workers.worker_choice import start_faster_pool

logger = logging.getLogger(__name__)


class BatchProducer:
    """Executor that runs a worker function on tasks and returns the results in order.

    Args:
        settings: number of workers, prefetch and timeout.
        group: flag group such as `train`, for messages.
        check: called while waiting for results; raises to stop.

    Attributes:
        workers: worker pool; None until it is started.
    """

    def __init__(self, settings: LoaderSettings, group: str, check: Callable[[], None]):
        self.settings = settings
        self.group = group
        self.check = check
        self.workers: WorkerPool | None = None
        self._num_workers = settings.num_processes or 0
        self._is_memory_logged = False

    def auto_select_num_workers(self, seconds: float) -> None:
        """Choose the number of workers for work that takes `seconds` in one process, unless the user has set it."""
        if self.settings.num_processes is None:
            self._num_workers = choose_num_workers(seconds)

    def run(
        self,
        work: WorkerFunction,
        tasks: Iterable[Any],
        batches_per_task: int = 1,
        make_probe: Callable[[int], Any] | None = None,
    ) -> Iterator[Any]:
        """Return the results of all tasks, in order; see `WorkerPool.run`.

        Args:
            work: worker function.
            tasks: tasks; None where the next one depends on results that have not been taken yet.
            batches_per_task: number of batches that a task builds.
            make_probe: returns a task of a number of samples, to measure whether threads are faster than processes;
                None if threads are not safe.
        """
        if not self._num_workers or (workers := self._start_pool(work, batches_per_task, make_probe)) is None:
            return iterate_in_thread((work(task) for task in tasks if task is not None), self.check)
        return self._log_memory_once(workers, workers.run(iterate_in_thread(iter(tasks), self.check)))

    @property
    def max_batches_per_task(self) -> int:
        """Maximum number of batches per task that respects `prefetch`."""
        return max(1, self.settings.prefetch // (self._num_workers + 1))

    def close(self) -> None:
        """Stop the workers."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None

    def _start_pool(
        self, work: WorkerFunction, batches_per_task: int, make_probe: Callable[[int], Any] | None
    ) -> WorkerPool | None:
        if self.workers is None:
            max_outstanding = max(self._num_workers + 1, self.settings.prefetch // batches_per_task)
            try:
                self.workers = self._choose_pool(
                    lambda pool: pool(
                        work, self._num_workers, max_outstanding, self.settings.timeout_seconds, self.check
                    ),
                    make_probe,
                )
            except NotPicklableError as error:
                if self.settings.num_processes is not None:
                    raise
                self._num_workers = 0
                logger.warning("--%s: falling back to single-process data loading: %s", self.group, error)
        return self.workers

    def _choose_pool(
        self, start: Callable[[type[WorkerPool]], WorkerPool], make_probe: Callable[[int], Any] | None
    ) -> WorkerPool:
        if self.settings.worker_type == "thread":
            return start(ThreadPool)
        if self.settings.worker_type == "process" or make_probe is None:
            return start(ProcessPool)
        return start_faster_pool(start, make_probe, self.group)

    def _log_memory_once(self, workers: WorkerPool, results: Iterator[Any]) -> Iterator[Any]:
        """Yield the results; log the amount of shared memory when all task slots are in use."""
        for number, result in enumerate(results):
            if not self._is_memory_logged and number == workers.max_outstanding:
                self._is_memory_logged = True
                logger.info(
                    "--%s: %s (%s), prefetch %s, %.3g MB shared memory",
                    self.group,
                    pluralize(workers.num_workers, "data worker"),
                    workers.kind,
                    pluralize(workers.max_outstanding, "task"),
                    workers.nbytes() / 1e6,
                )
            yield result
