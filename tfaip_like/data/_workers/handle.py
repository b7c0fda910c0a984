"""A data process as the main process sees it: started, given tasks, ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import attach_remote_frame
from tfaip_like._utils.processes import ActiveTimer, is_suspended
from tfaip_like.data._workers.process import WORKER_ENV_VAR, ExceptionInfo, ResultMessage, StartMessage
from tfaip_like.data._workers.shared_memory import SharedFile, pack, unpack

SHUTDOWN_TIMEOUT_S = 1.0


class RemoteError(Exception):
    """An exception of a data process that could not be sent; its text is."""


@dataclass(frozen=True)
class TaskResult:
    """A result as it came."""

    number: int
    value: Any
    seconds: Sequence[float]
    transfer_seconds: float
    cpu: float
    fault: ExceptionInfo | None


class WorkerProcess:
    """A data process and the tasks it has."""

    def __init__(
        self,
        start: Callable[[SharedFile, list[SharedFile]], tuple[StartMessage, list[SharedFile]]],
        lifeline: int,
        progress_size: int,
        slots: int,
    ):
        self._make_start_message = start
        self._lifeline = lifeline
        self._progress_file = SharedFile.in_memory()
        self.progress: npt.NDArray[np.int64] = np.frombuffer(self._progress_file.view(8 * progress_size), np.int64)
        self.slots = [SharedFile.in_memory() for _ in range(slots)]
        self.free = list(range(slots))
        self.tasks: dict[int, tuple[int, Any]] = {}
        """Number of each task that is not done -> its slot and what it is."""
        self._last_progress = b""
        self._waited = ActiveTimer()
        self._idle_progress = self.progress.tobytes()
        self._start()

    def _start(self) -> None:
        self.is_ready = False
        message, files = self._make_start_message(self._progress_file, self.slots)
        ours, theirs = socketpair()
        with theirs:
            descriptors = [theirs.fileno(), self._lifeline, *(file.descriptor for file in files)]
            # Ctrl-C reaches all processes of a terminal; this one cannot be hit before it ignores it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-c", _bootstrap_code(theirs.fileno(), self._lifeline)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, WORKER_ENV_VAR: "1", "CUDA_VISIBLE_DEVICES": ""},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.connection = Connection(ours.detach())
        self.connection.send(message)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def submit(self, number: int, task: Any) -> None:
        """Hands it a task."""
        if not self.tasks:
            self._idle_progress = self.progress.tobytes()
        slot = self.free[-1]
        pack(task, self.slots[slot])
        self.free.pop()
        self.tasks[number] = (slot, task)
        self._send(number)

    def _send(self, number: int) -> None:
        # Messages are small, what is large lies in the slot: neither side ever waits to be read.
        with contextlib.suppress(OSError):  # it is dead, which is found when its results are waited for
            self.connection.send((number, self.tasks[number][0]))

    def handle_message(self, result: ResultMessage | None) -> TaskResult | None:
        """What a result brings; None for the note that it is ready to work."""
        if result is None:
            self.is_ready = True
            return None
        for logged in result.logged:
            record = logging.makeLogRecord(dict(logged))
            if (source := logging.getLogger(record.name)).isEnabledFor(record.levelno):
                source.handle(record)
        if result.number < 0 and result.fault is not None:
            raise to_exception(result.fault)
        slot, _ = self.tasks.pop(result.number)
        begin = time.perf_counter()
        value = None if result.fault else unpack(self.slots[slot])
        transfer_seconds = result.transfer_seconds + time.perf_counter() - begin
        self.free.append(slot)
        return TaskResult(result.number, value, result.seconds, transfer_seconds, result.cpu, result.fault)

    def seconds_since_progress(self) -> float:
        """Return how long `at` has been the same, as far as somebody looked and the process was running."""
        now = self.progress.tobytes() if self.is_ready else b""
        if now != self._last_progress:
            self._last_progress = now
            self._waited.reset()
        return self._waited.update(counts=not is_suspended(self.pid))

    def has_begun(self) -> bool:
        """Return whether it has worked on any of its tasks yet."""
        return bool(self.tasks) and self.progress.tobytes() != self._idle_progress

    def restart(self) -> None:
        """Starts it anew, with the tasks that it has."""
        self.connection.close()
        self._idle_progress = self.progress.tobytes()
        self._start()
        for number, (slot, task) in self.tasks.items():
            pack(task, self.slots[slot])
            self._send(number)

    def wait_exit_code(self) -> int:
        """How it ended; it is killed if it has not, since its connection is closed."""
        try:
            return self._popen.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def stop(self) -> None:
        """Waits a moment for it to end, then kills it; lets go of all it had."""
        self.wait_exit_code()
        self.connection.close()
        self.tasks.clear()
        self.progress = self.progress.copy()
        for file in (self._progress_file, *self.slots):
            file.close()
        self.slots = []


def _bootstrap_code(connection: int, lifeline: int) -> str:
    path = json.dumps(sys.path)
    return (
        f"import sys; sys.path[:] = {path}\n"
        "from tfaip_like.data._workers.process import worker_main\n"
        f"worker_main({connection}, {lifeline})"
    )


def to_exception(fault: ExceptionInfo) -> BaseException:
    """An exception of a process, with the user's line and the whole traceback for those who ask."""
    error = fault.error if fault.error is not None else RemoteError(fault.text)
    error.__notes__ = list(fault.notes)
    attach_remote_frame(error, fault.frame)
    error.__cause__ = RemoteError(f"in a data process:\n{fault.traceback}")
    return error
