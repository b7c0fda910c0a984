"""Where batches are made: in this process or in data processes, and how many of those pay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tfaip_like._utils.errors import counted
from tfaip_like.data._settings import DataSettings
from tfaip_like.data._workers.background import iterate_in_thread
from tfaip_like.data._workers.parallel_map import processes_that_pay
from tfaip_like.data._workers.pool import CannotBeSentError, Workers
from tfaip_like.data._workers.process import Work

logger = logging.getLogger(__name__)


class Makers:
    """Does work on tasks, and gives the results in their order.

    Args:
        group: of the flags: for messages.
        check: called while waiting for results; raises to stop.

    Attributes:
        workers: the data processes, once they are started.
    """

    def __init__(self, settings: DataSettings, group: str, check: Callable[[], None]):
        self.settings = settings
        self.group = group
        self.check = check
        self.workers: Workers | None = None
        self._count = settings.num_processes or 0
        self._is_told = False

    def decide(self, seconds: float) -> None:
        """Chooses the number of processes for work that takes so long in one, unless the user has."""
        if self.settings.num_processes is None:
            self._count = processes_that_pay(seconds)

    def run(self, work: Work, tasks: Iterable[Any], at_once: int = 1) -> Iterator[Any]:
        """Return the results of all tasks, each of which makes `at_once` batches; see `Workers.run`."""
        if not self._count or (workers := self._started(work, at_once)) is None:
            return iterate_in_thread((work(task) for task in tasks if task is not None), self.check)
        return self._told_once(workers, workers.run(iterate_in_thread(iter(tasks), self.check)))

    @property
    def most_at_once(self) -> int:
        """Most batches that one task may make, so that `prefetch` is kept."""
        return max(1, self.settings.prefetch // (self._count + 1))

    def close(self) -> None:
        """Ends the data processes."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None

    def _started(self, work: Work, at_once: int) -> Workers | None:
        if self.workers is None:
            ahead = max(self._count + 1, self.settings.prefetch // at_once)
            try:
                self.workers = Workers(work, self._count, ahead, self.settings.timeout_seconds, self.check)
            except CannotBeSentError as error:
                if self.settings.num_processes is not None:
                    raise
                self._count = 0
                logger.warning("--%s data are made in the main process: %s", self.group, error)
        return self.workers

    def _told_once(self, workers: Workers, results: Iterator[Any]) -> Iterator[Any]:
        """The results; says how much memory is shared when all of it is in use."""
        for number, result in enumerate(results):
            if not self._is_told and number == workers.ahead:
                self._is_told = True
                processes = f"{workers.count} data processes" if workers.count > 1 else "1 data process"
                logger.info(
                    "--%s: %s, %s ahead, %.3g MB shared",
                    self.group,
                    processes,
                    counted(workers.ahead, "task"),
                    workers.nbytes() / 1e6,
                )
            yield result
