"""Handle of a data worker in the main process: start it, submit tasks, stop it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import attach_remote_frame
from tfaip_like._utils.processes import ActiveTimer, is_suspended
from tfaip_like.data._workers.pool import TaskResult
from tfaip_like.data._workers.process import WORKER_ENV_VAR, ExceptionInfo, ResultMessage, StartMessage
from tfaip_like.data._workers.shared_memory import SharedFile, pack, unpack, unpack_views

SHUTDOWN_TIMEOUT_S = 1.0


class RemoteError(Exception):
    """Exception of a data worker that could not be pickled; carries its text."""


MAX_LENT_SLOTS = 2
"""Slots of a worker that may be in use as arrays of results: one that is being used, and the one after it."""


class WorkerProcess:
    """Worker process and its unfinished tasks."""

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
        self.slots = [SharedFile.in_memory() for _ in range(slots + MAX_LENT_SLOTS)]
        self.free = list(range(len(self.slots)))
        self._num_waiting = 0
        """Slots with results that have not been taken."""
        self.tasks: dict[int, tuple[int, Any]] = {}
        """Unfinished tasks: number -> (slot, task)."""
        self._last_progress = b""
        self._stall_timer = ActiveTimer()
        self._idle_progress = self.progress.tobytes()
        self._start()

    def _start(self) -> None:
        self.is_ready = False
        message, files = self._make_start_message(self._progress_file, self.slots)
        local, remote = socketpair()
        with remote:
            descriptors = [remote.fileno(), self._lifeline, *(file.descriptor for file in files)]
            # Ctrl-C reaches every process of the terminal; block it until the worker ignores it.
            previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-c", _bootstrap_code(remote.fileno(), self._lifeline)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, WORKER_ENV_VAR: "1", "CUDA_VISIBLE_DEVICES": ""},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
        self.connection = Connection(local.detach())
        self.connection.send(message)

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._popen.pid

    def submit(self, number: int, task: Any) -> None:
        """Send a task to the worker."""
        if not self.tasks:
            self._idle_progress = self.progress.tobytes()
        slot = self.free[-1]
        self._pack_task(task, slot)
        self.free.remove(slot)
        self.tasks[number] = (slot, task)
        self._send(number)

    def _pack_task(self, task: Any, slot: int) -> None:
        self.slots[slot].start_over()
        pack(task, self.slots[slot])

    def _send(self, number: int) -> None:
        # Messages are small (large data is in the slot), so that neither side blocks on a full socket.
        with contextlib.suppress(OSError):  # it has died, which is detected while waiting for its results
            self.connection.send((number, self.tasks[number][0]))

    def handle_message(self, result: ResultMessage | None) -> TaskResult | None:
        """Unpack a result; return None for the message that the worker is ready."""
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
        self._num_waiting += 1
        return TaskResult(
            result.number,
            partial(self._take, slot, result.fault),
            partial(self._discard, slot),
            result.seconds,
            result.transfer_seconds,
            result.cpu,
        )

    def _take(self, slot: int, fault: ExceptionInfo | None) -> Any:
        """Return the result in a slot, as views of it if enough other slots are left, and raise its exception."""
        num_lent = len(self.slots) - len(self.free) - len(self.tasks) - self._num_waiting
        if fault is None and num_lent < MAX_LENT_SLOTS:
            self._num_waiting -= 1
            return unpack_views(self.slots[slot], on_release=partial(self.free.append, slot))
        try:
            if fault is not None:
                raise to_exception(fault)
            return unpack(self.slots[slot])
        finally:
            self._discard(slot)

    def _discard(self, slot: int) -> None:
        self._num_waiting -= 1
        self.free.append(slot)

    def seconds_since_progress(self) -> float:
        """Return for how long `progress` has not changed, measured between calls and while the process was running."""
        now = self.progress.tobytes() if self.is_ready else b""
        if now != self._last_progress:
            self._last_progress = now
            self._stall_timer.reset()
        return self._stall_timer.update(counts=not is_suspended(self.pid))

    def has_begun(self) -> bool:
        """Return whether the worker has started one of its tasks."""
        return bool(self.tasks) and self.progress.tobytes() != self._idle_progress

    def restart(self) -> None:
        """Restart the process and resubmit its unfinished tasks."""
        self.connection.close()
        self._idle_progress = self.progress.tobytes()
        self._start()
        for number, (slot, task) in self.tasks.items():
            self._pack_task(task, slot)
            self._send(number)

    def wait_exit_code(self) -> int:
        """Return the exit code; kill the process if it does not exit after its connection is closed."""
        try:
            return self._popen.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def stop(self) -> None:
        """Wait briefly for the process to exit, else kill it; release its resources."""
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
    """Rebuild the exception of a worker, with the user's line as its frame and the remote traceback as its cause."""
    error = fault.error if fault.error is not None else RemoteError(fault.text)
    error.__notes__ = list(fault.notes)
    attach_remote_frame(error, fault.frame)
    error.__cause__ = RemoteError(f"in a data worker:\n{fault.traceback}")
    return error
