"""Pool of worker processes.

The result depends on the task alone, so a worker that crashes is restarted and its tasks are repeated; a sample that
crashes it twice is an error.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.operating_system import require_posix
from tfaip_like._utils.processes import ParentPipe
from tfaip_like.data._workers.handle import WorkerProcess
from tfaip_like.data._workers.pool import NotPicklableError, WorkerError, WorkerPool, pack_work
from tfaip_like.data._workers.process import WORKER_ENV_VAR, ResultMessage, StartMessage, WorkerFunction
from tfaip_like.data._workers.shared_memory import SharedFile, pickle_contains

logger = logging.getLogger(__name__)

MAX_RESTARTS = 5


class ProcessPool(WorkerPool):
    """Worker processes; see `WorkerPool`."""

    kind = "processes"

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
        super().__init__(work, num_workers, max_outstanding, timeout_seconds, check)
        self._files: list[SharedFile] = []
        self._packed = SharedFile.in_memory()
        pack_work(work, self._packed, self._files)
        self._main_file = _main_file(self._packed)
        self._lifeline = ParentPipe()
        self._restarts = 0
        self._crashing_samples: set[tuple[int, ...]] = set()
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

    @property
    def pids(self) -> list[int]:
        """Process IDs of the workers."""
        return [process.pid for process in self._processes]

    def nbytes(self) -> int:
        return len(self._packed) + sum(len(slot) for process in self._processes for slot in process.slots)

    def close(self) -> None:
        with self._lock:  # so that `run` does not mistake the shutdown for a crash
            if self._closed:
                return
            self._closed = True
            self._lifeline.close()
        for process in self._processes:
            process.stop()
        self._results.clear()
        self._packed.close()

    def _make_start_message(
        self, progress: SharedFile, slots: list[SharedFile]
    ) -> tuple[StartMessage, list[SharedFile]]:
        files = [self._packed, progress, *self._files, *slots]
        level = logging.getLogger().getEffectiveLevel()
        return StartMessage([file.descriptor for file in files], len(self._files), self._main_file, level), files

    def _can_submit(self) -> bool:
        return any(process.free for process in self._processes)

    def _submit(self, number: int, task: Any) -> None:
        free = (process for process in self._processes if process.free)
        min(free, key=lambda process: len(process.tasks)).submit(number, task)

    def _receive(self, seconds: float) -> None:
        ready = wait([process.connection for process in self._processes], seconds)
        for process in self._processes:
            if process.connection not in ready:
                continue
            try:
                received: ResultMessage | None = process.connection.recv()
            except (EOFError, OSError):
                self._handle_crash(process)
                continue
            if (result := process.handle_message(received)) is not None:
                self._add_result(result)

    def _check_timeout(self, awaited: int) -> None:
        holder = next((process for process in self._processes if awaited in process.tasks), None)
        if not self.timeout_seconds or holder is None or holder.seconds_since_progress() <= self.timeout_seconds:
            return
        raise self._make_timeout_error(holder.progress if holder.is_ready else None)

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
