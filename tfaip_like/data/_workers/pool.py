"""Pool of worker processes that returns results in the order of the tasks.

The result depends on the task alone, so a worker that crashes is restarted and its tasks are repeated; a sample that
crashes it twice is an error.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.operating_system import require_posix
from tfaip_like._utils.processes import ParentPipe
from tfaip_like.data._workers.handle import TaskResult, WorkerProcess
from tfaip_like.data._workers.process import WORKER_ENV_VAR, ResultMessage, StartMessage, WorkerFunction
from tfaip_like.data._workers.shared_memory import SharedFile, pack, pickle_contains
from tfaip_like.data._workers.unpicklable import find_unpicklable

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
MAX_RESTARTS = 5


class WorkerError(TrainingError):
    """Crash or timeout of a data worker without an exception."""


class NotPicklableError(CodeError):
    """Worker function that cannot be pickled."""


class WorkerPool:
    """Worker processes that run the same function on different tasks.

    Args:
        work: function to run, sent to the workers once. Its large arrays are shared, not copied.
        num_workers: number of processes, at least 1.
        max_outstanding: upper limit for submitted tasks whose results have not been taken.
        timeout_seconds: time without progress after which a worker counts as hanging; 0 disables the limit.
        check: called while waiting; may raise to stop.

    Attributes:
        seconds: total time of each stage, over all workers.
        transfer_seconds: total time for packing and unpacking, over all workers and this process.
        cpu: total CPU time of the tasks, in seconds.
    """

    def __init__(
        self,
        work: WorkerFunction,
        num_workers: int,
        max_outstanding: int,
        timeout_seconds: float = 0,
        check: Callable[[], None] = lambda: None,
    ):
        require_posix("num_processes > 0 (data workers)")
        _reject_nested_workers()
        self.work = work
        self.num_workers = num_workers
        self.max_outstanding = max(max_outstanding, num_workers)
        self.timeout_seconds = timeout_seconds
        self.check = check
        self.seconds = np.zeros(len(work.seconds))
        self.transfer_seconds = self.cpu = 0.0
        self._files: list[SharedFile] = []
        self._packed = SharedFile.in_memory()
        _pack_work(work, self._packed, self._files)
        self._main_file = _main_file(self._packed)
        self._lifeline = ParentPipe()
        self._task_ids = itertools.count()
        self._results: dict[int, TaskResult] = {}
        self._run = 0
        self._first_task_of_run = 0
        self._restarts = 0
        self._crashing_samples: set[tuple[int, ...]] = set()
        self._lock = threading.RLock()
        """Held while submitting tasks and receiving results: `run` and `close` may be called in different threads."""
        self._closed = False
        self._processes: list[WorkerProcess] = []
        slots = math.ceil(self.max_outstanding / num_workers) + 1
        try:
            for _ in range(num_workers):
                self._processes.append(
                    WorkerProcess(self._make_start_message, self._lifeline.descriptor, len(work.progress), slots)
                )
        except BaseException:
            self.close()
            raise

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
            while has_more and len(expected) < self.max_outstanding and self._has_free_slot():
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
                    self._least_loaded().submit(expected[-1], task)
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

    @property
    def pids(self) -> list[int]:
        """Process IDs of the workers."""
        return [process.pid for process in self._processes]

    def num_ready(self) -> int:
        """Return the number of results that are available without waiting."""
        with self._lock:
            self._receive(0)
        return len(self._results)

    def nbytes(self) -> int:
        """Return the size of the shared memory in bytes: results and shared arrays."""
        return len(self._packed) + sum(len(slot) for process in self._processes for slot in process.slots)

    def close(self) -> None:
        """Stop all workers."""
        with self._lock:  # so that `run` does not mistake the shutdown for a crash
            if self._closed:
                return
            self._closed = True
            self._lifeline.close()
        for process in self._processes:
            process.stop()
        self._results.clear()
        self._packed.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_start_message(
        self, progress: SharedFile, slots: list[SharedFile]
    ) -> tuple[StartMessage, list[SharedFile]]:
        files = [self._packed, progress, *self._files, *slots]
        level = logging.getLogger().getEffectiveLevel()
        return StartMessage([file.descriptor for file in files], len(self._files), self._main_file, level), files

    def _is_current_run(self, run: int) -> bool:
        return run == self._run and not self._closed

    def _least_loaded(self) -> WorkerProcess:
        return min((process for process in self._processes if process.free), key=lambda process: len(process.tasks))

    def _has_free_slot(self) -> bool:
        return any(process.free for process in self._processes)

    def _receive(self, seconds: float) -> None:
        """Receive all available results; wait at most `seconds` for the first."""
        ready = wait([process.connection for process in self._processes], seconds)
        for process in self._processes:
            if process.connection not in ready:
                continue
            try:
                received: ResultMessage | None = process.connection.recv()
            except (EOFError, OSError):
                self._handle_crash(process)
                continue
            if (result := process.handle_message(received)) is None:
                continue
            message = result.message
            if message.number >= self._first_task_of_run:
                self._results[message.number] = result
            else:
                result.discard()
            if message.seconds:
                self.seconds += message.seconds
            self.transfer_seconds += message.transfer_seconds
            self.cpu += message.cpu

    def _discard_results(self) -> None:
        for result in self._results.values():
            result.discard()
        self._results.clear()

    def _check_timeout(self, awaited: int) -> None:
        holder = next((process for process in self._processes if awaited in process.tasks), None)
        if not self.timeout_seconds or holder is None or holder.seconds_since_progress() <= self.timeout_seconds:
            return
        what = f"in {self.work.describe_progress(holder.progress)}" if holder.is_ready else "while starting"
        raise WorkerError(
            f"data worker timed out after {self.timeout_seconds:g} s {what}.\n"
            "If the work needs more time, increase timeout_seconds (0 disables the timeout)."
        )

    def _handle_crash(self, process: WorkerProcess) -> None:
        """Restart a worker that crashed; raise `WorkerError` if that would repeat the crash."""
        code = process.wait_exit_code()
        how = f"killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory?)"
        if not process.is_ready:
            raise WorkerError(f"data worker {how} while starting")
        self._restarts += 1
        place = "while idle"
        is_known = False
        if process.has_begun():
            place = f"while processing {self.work.describe_progress(process.progress)}"
            key = tuple(process.progress[:3].tolist())
            is_known = key in self._crashing_samples
            self._crashing_samples.add(key)
        if is_known or self._restarts > MAX_RESTARTS:
            which = "for the second time" if is_known else f"after {MAX_RESTARTS} restarts"
            raise WorkerError(f"data worker {how} {place}, {which}")
        logger.warning("data worker %s %s; restarting", how, place)
        process.restart()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _pack_work(work: WorkerFunction, memory: SharedFile, files: list[SharedFile]) -> None:
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


def _main_file(packed: SharedFile) -> str | None:
    """Return the user script if the worker function refers to its classes."""
    if not pickle_contains(packed, b"__main__"):
        return None
    file: str | None = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise NotPicklableError(
            "data workers cannot import classes defined in a notebook or an interactive session; move them to a file, "
            "or set num_processes to 0"
        )
    return os.path.abspath(file)


def _reject_nested_workers() -> None:
    if os.environ.get(WORKER_ENV_VAR):
        raise UsageError(
            "the script started data workers again while a data worker imported it; put the code that starts them "
            'under `if __name__ == "__main__":`'
        )
