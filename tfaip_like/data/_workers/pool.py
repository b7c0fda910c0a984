"""Processes that work on tasks; their results come in the order of the tasks.

Every task is a pure function of what it says, so a process that dies is started again and its tasks
with it; a sample that kills it twice is named.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.operating_system import require_posix
from tfaip_like._utils.processes import ParentPipe
from tfaip_like.data._workers.handle import TaskResult, WorkerProcess, to_exception
from tfaip_like.data._workers.process import WORKER_ENV_VAR, ResultMessage, StartMessage, WorkerFunction
from tfaip_like.data._workers.shared_memory import SharedFile, pack, pickle_contains
from tfaip_like.data._workers.unpicklable import find_unpicklable

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
MAX_RESTARTS = 5


class WorkerError(TrainingError):
    """A data process died or hangs, though nothing was raised in it."""


class NotPicklableError(CodeError):
    """The work holds what another process cannot have."""


class WorkerPool:
    """Some processes that do the same work.

    Args:
        work: what they do; given to them once. Its large arrays are shared, not copied.
        count: number of processes.
        ahead: most tasks that are begun before their results are asked for.
        timeout_seconds: a process whose `at` does not change for this long hangs; 0 for no limit.
        check: called while waiting; may raise to stop.

    Attributes:
        seconds: time that each stage of the work has taken in all processes.
        transfer_seconds: time that packing and unpacking took, in all processes and in this one.
        cpu: time of a processor that the tasks took.
    """

    def __init__(
        self,
        work: WorkerFunction,
        count: int,
        max_outstanding: int,
        timeout_seconds: float = 0,
        check: Callable[[], None] = lambda: None,
    ):
        require_posix("num_processes > 0 (data workers)")
        _reject_nested_workers()
        self.work = work
        self.num_workers = count
        self.max_outstanding = max(max_outstanding, count)
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
        """Held by whoever hands out tasks or takes results: `run` may be in one thread, `close` in another."""
        self._closed = False
        self._processes: list[WorkerProcess] = []
        slots = math.ceil(self.max_outstanding / count) + 1
        try:
            for _ in range(count):
                self._processes.append(
                    WorkerProcess(self._make_start_message, self._lifeline.descriptor, len(work.progress), slots)
                )
        except BaseException:
            self.close()
            raise

    def run(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield the results of tasks, in their order. A call ends the one before.

        Args:
            tasks: None for one that cannot be begun before more results were taken.

        Raises:
            Exception: what was raised in a process, when the results before it were taken.
            WorkerError: when a process died or hangs; it names what was worked on.
        """
        with self._lock:
            self._run += 1
            run = self._run
            self._results.clear()
            self._first_task_of_run = next(self._task_ids)
        expected: deque[int] = deque()
        rest = iter(tasks)
        has_more = True
        while self._is_current_run(run):
            while has_more and len(expected) < self.max_outstanding and self._has_free_slot():
                try:
                    task = next(rest)
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
                taken = self._results.pop(expected.popleft())
                if taken.fault is not None:
                    raise to_exception(taken.fault)
                yield taken.value
                continue
            with self._lock:
                if self._is_current_run(run):
                    self._receive(POLL_INTERVAL_S)
                    self.check()
                    if expected:
                        self._check_timeout(expected[0])

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [process.pid for process in self._processes]

    def num_ready(self) -> int:
        """How many results could be had without waiting."""
        with self._lock:
            self._receive(0)
        return len(self._results)

    def nbytes(self) -> int:
        """Size of the memory for results and of the arrays that all processes share."""
        return len(self._packed) + sum(len(slot) for process in self._processes for slot in process.slots)

    def close(self) -> None:
        """Ends all processes."""
        with self._lock:  # nobody takes their end for a death
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
        """Takes the results that are there, waiting so long for the first."""
        ready = wait([process.connection for process in self._processes], seconds)
        for process in self._processes:
            if process.connection not in ready:
                continue
            try:
                result: ResultMessage | None = process.connection.recv()
            except (EOFError, OSError):
                self._handle_crash(process)
                continue
            if (taken := process.handle_message(result)) is None:
                continue
            if taken.number >= self._first_task_of_run:
                self._results[taken.number] = taken
            if taken.seconds:
                self.seconds += taken.seconds
            self.transfer_seconds += taken.transfer_seconds
            self.cpu += taken.cpu

    def _check_timeout(self, awaited: int) -> None:
        holder = next((process for process in self._processes if awaited in process.tasks), None)
        if not self.timeout_seconds or holder is None or holder.seconds_since_progress() <= self.timeout_seconds:
            return
        what = f"on {self.work.describe_progress(holder.progress)}" if holder.is_ready else "to start"
        raise WorkerError(
            f"a data process has worked for more than {self.timeout_seconds:g} s {what}.\n"
            "If that is no mistake, allow it more time with timeout_seconds (0: for ever)."
        )

    def _handle_crash(self, process: WorkerProcess) -> None:
        """Starts a process that died again, unless it would die again."""
        code = process.wait_exit_code()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        memory = " Was there too little memory?" if code == -9 else ""
        if not process.is_ready:
            raise WorkerError(f"a data process {how} while it started.{memory}")
        self._restarts += 1
        place = "while it had nothing to do"
        is_known = False
        if process.has_begun():
            place = f"while it worked on {self.work.describe_progress(process.progress)}"
            key = tuple(process.progress[:3].tolist())
            is_known = key in self._crashing_samples
            self._crashing_samples.add(key)
        if is_known or self._restarts > MAX_RESTARTS:
            which = "a second time " if is_known else f"(the {self._restarts}th to die) "
            raise WorkerError(f"a data process {how}, {which}{place}.{memory}")
        logger.warning("a data process %s %s; it is started again.%s", how, place, memory)
        process.restart()


def _pack_work(work: WorkerFunction, memory: SharedFile, files: list[SharedFile]) -> None:
    try:
        pack(work, memory, files)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        part = find_unpicklable(getattr(work, "samples", work))
        which = f"{part.owner.__name__}.{part.name}: " if part is not None else ""
        raise NotPicklableError(
            f"{which}{type(error).__name__}: {error}.\n"
            "What data processes use must be importable (a class at the top of a module) and hold nothing that belongs "
            "to one process; or set num_processes to 0",
            part.frame if part is not None else None,
        ) from error


def _main_file(packed: SharedFile) -> str | None:
    """The user's script, if classes of it are in the work."""
    if not pickle_contains(packed, b"__main__"):
        return None
    file: str | None = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise NotPicklableError(
            "data processes cannot find classes that were defined in a notebook or at a prompt; write them "
            "into a file, or set num_processes to 0"
        )
    return os.path.abspath(file)


def _reject_nested_workers() -> None:
    if os.environ.get(WORKER_ENV_VAR):
        raise UsageError(
            "a data process imported your script, and that started a training: put what is to run once "
            'below `if __name__ == "__main__":`'
        )
