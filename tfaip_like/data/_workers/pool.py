"""Pool of workers that returns results in the order of the tasks."""

from __future__ import annotations

import abc
import itertools
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import TrainingError
from tfaip_like.data._workers.process import WorkerFunction
from tfaip_like.data._workers.shared_memory import SharedFile, pack
from tfaip_like.data._workers.unpicklable import find_unpicklable

POLL_INTERVAL_S = 0.2


class WorkerError(TrainingError):
    """Crash or timeout of a data worker without an exception."""


class NotPicklableError(CodeError):
    """Worker function that cannot be pickled."""


@dataclass(frozen=True)
class TaskResult:
    """Result of a task, held by its worker until it is taken or discarded."""

    number: int
    take: Callable[[], Any]
    """Returns the result, or raises the exception of the task; to be called once, unless it is discarded."""
    discard: Callable[[], None] = lambda: None
    seconds: Sequence[float] = ()
    """Time of each stage since the previous result."""
    transfer_seconds: float = 0.0
    """Time for packing and unpacking."""
    cpu: float = 0.0
    """CPU time of the task in seconds."""


class WorkerPool(abc.ABC):
    """Workers that run the same function on different tasks.

    Args:
        work: function to run. Each worker has its own copy, whose large arrays are shared.
        num_workers: number of workers, at least 1.
        max_outstanding: upper limit for submitted tasks whose results have not been taken.
        timeout_seconds: time without progress after which a worker counts as hanging; 0 disables the limit.
        check: called while waiting; may raise to stop.

    Attributes:
        seconds: total time of each stage, over all workers.
        transfer_seconds: total time for packing and unpacking, over all workers and this thread.
        cpu: total CPU time of the tasks, in seconds.
    """

    kind: str
    """What workers are, for messages."""

    def __init__(
        self,
        work: WorkerFunction,
        num_workers: int,
        max_outstanding: int,
        timeout_seconds: float = 0,
        check: Callable[[], None] = lambda: None,
    ):
        self.work = work
        self.num_workers = num_workers
        self.max_outstanding = max(max_outstanding, num_workers)
        self.timeout_seconds = timeout_seconds
        self.check = check
        self.seconds = np.zeros(len(work.seconds))
        self.transfer_seconds = self.cpu = 0.0
        self._task_ids = itertools.count()
        self._results: dict[int, TaskResult] = {}
        self._run = 0
        self._first_task_of_run = 0
        self._lock = threading.RLock()
        """Held while submitting tasks and receiving results: `run` and `close` may be called in different threads."""
        self._closed = False

    def run(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield the results of tasks, in order. A call ends the previous one.

        Args:
            tasks: the tasks; None where the next task depends on results that have not been taken yet.

        Raises:
            Exception: the exception of a worker, after the results that precede it.
            WorkerError: if a worker crashes or hangs; names the sample.
        """
        with self._lock:
            self._run += 1
            run = self._run
            self._discard_results()
            self._first_task_of_run = next(self._task_ids)
        expected: deque[int] = deque()
        remaining = iter(tasks)
        has_more = True
        while self._is_current_run(run):
            while has_more and len(expected) < self.max_outstanding and self._can_submit():
                try:
                    task = next(remaining)
                except StopIteration:
                    has_more = False
                    break
                if task is None:
                    break
                with self._lock:
                    if not self._is_current_run(run):
                        return
                    expected.append(next(self._task_ids))
                    self._submit(expected[-1], task)
            if not expected and not has_more:
                return
            if expected and expected[0] in self._results:
                begin = time.perf_counter()
                with self._lock:
                    value = self._results.pop(expected.popleft()).take()
                self.transfer_seconds += time.perf_counter() - begin
                yield value
                del value  # so that its memory can be used again
                continue
            with self._lock:
                if self._is_current_run(run):
                    self._receive(POLL_INTERVAL_S)
                    self.check()
                    if expected:
                        self._check_timeout(expected[0])

    def num_ready(self) -> int:
        """Return the number of results that are available without waiting."""
        with self._lock:
            self._receive(0)
        return len(self._results)

    @abc.abstractmethod
    def nbytes(self) -> int:
        """Return the size of the shared memory in bytes: results and shared arrays."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop all workers."""

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def _can_submit(self) -> bool:
        """Return whether a worker can accept a task."""

    @abc.abstractmethod
    def _submit(self, number: int, task: Any) -> None:
        """Pass a task to a worker."""

    @abc.abstractmethod
    def _receive(self, seconds: float) -> None:
        """Pass all available results to `_add_result`; wait at most `seconds` for the first."""

    @abc.abstractmethod
    def _check_timeout(self, awaited: int) -> None:
        """Raise `WorkerError` if the worker of a task has made no progress for too long."""

    def _add_result(self, result: TaskResult) -> None:
        if result.number >= self._first_task_of_run:
            self._results[result.number] = result
        else:
            result.discard()
        if result.seconds:
            self.seconds += result.seconds
        self.transfer_seconds += result.transfer_seconds
        self.cpu += result.cpu

    def _discard_results(self) -> None:
        for result in self._results.values():
            result.discard()
        self._results.clear()

    def _is_current_run(self, run: int) -> bool:
        return run == self._run and not self._closed

    def _make_timeout_error(self, progress: npt.NDArray[np.int64] | None) -> WorkerError:
        what = "while starting" if progress is None else f"in {self.work.describe_progress(progress)}"
        return WorkerError(
            f"data worker timed out after {self.timeout_seconds:g} s {what}.\n"
            "If the work needs more time, increase timeout_seconds (0 disables the timeout)."
        )


def pack_work(work: WorkerFunction, memory: SharedFile, files: list[SharedFile]) -> None:
    """Pack a worker function; raise `NotPicklableError` if it cannot be pickled.

    Args:
        work: worker function.
        memory: target.
        files: collects the shared files inside it.
    """
    try:
        memory.start_over()
        pack(work, memory, files)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        attribute = find_unpicklable(getattr(work, "samples", work))
        which = f"{attribute.owner.__name__}.{attribute.name}: " if attribute is not None else ""
        raise NotPicklableError(
            f"{which}{type(error).__name__}: {error}.\n"
            "Objects used in data workers must be picklable: importable classes (at module level) without open files, "
            "locks or connections. Or set num_processes to 0",
            attribute.frame if attribute is not None else None,
        ) from error
