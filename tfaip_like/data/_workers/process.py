"""What runs in a data process: it takes tasks, works on them, and hands back results.

It is started as a program of its own, without TensorFlow. It ends when the main process ends, however
that ends; Ctrl-C is the main process' business.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import Frame, innermost_user_frame
from tfaip_like._utils.console import replace_unformattable, should_show
from tfaip_like._utils.processes import exit_when_closed
from tfaip_like.data._workers.shared_memory import SharedFile, pack, unpack

MAX_EXCEPTION_BYTES = 20_000
"""Most of an exception that is passed on: messages are so small that they never wait to be read."""
MAX_LOG_CHARACTERS = 4_000
"""Letters of the log that a result takes along."""
WORKER_ENV_VAR = "TFAIP_LIKE_DATA_PROCESS"
"""Environment variable of a data process."""


class WorkerFunction(Protocol):
    """What data processes do: a task in, a result out. It is pickled to them once, at their start."""

    progress: npt.NDArray[np.int64]
    """Tells what is being worked on; numbers that change while the work goes on."""
    seconds: npt.NDArray[np.float64]
    """Time that each of its stages has taken so far."""

    def __call__(self, task: Any, /) -> Any:
        """The result of a task."""

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """What `at` tells of, for a person."""


@dataclass(frozen=True)
class StartMessage:
    """The first message to a process."""

    descriptors: Sequence[int]
    """Of shared files: the work, `at`, the files of the work, then the slots for results."""
    files: int
    """How many of them are files of the work."""
    main_file: str | None
    """The user's script, where classes of it are needed."""
    log_level: int
    """From which level on the main process logs."""


@dataclass(frozen=True)
class ResultMessage:
    """A finished task; what it made lies in its slot."""

    number: int
    seconds: Sequence[float] = ()
    """Time of each stage since the last result."""
    transfer_seconds: float = 0.0
    """Time that packing and unpacking took."""
    cpu: float = 0.0
    """Time of a processor that the task took: less than the whole time, where it waited for a disk."""
    fault: ExceptionInfo | None = None
    logged: Sequence[Mapping[str, Any]] = ()
    """What was logged since the last result: attributes of log records."""


@dataclass(frozen=True)
class ExceptionInfo:
    """An exception for another process."""

    error: BaseException | None
    """The exception, where it can be pickled."""
    text: str
    """Its kind and message."""
    traceback: str
    frame: Frame | None
    """The line of the user's code where it happened."""
    notes: Sequence[str] = field(default_factory=list)

    @classmethod
    def from_exception(cls, error: BaseException) -> ExceptionInfo:
        """What another process must know of an exception."""
        try:
            data = pickle.dumps(error)
            pickled = pickle.loads(data) if len(data) < MAX_EXCEPTION_BYTES else None  # noqa: S301  (just made)
        except Exception:
            pickled = None
        return cls(
            error=pickled if type(pickled) is type(error) else None,
            text=f"{type(error).__name__}: {error}"[:MAX_EXCEPTION_BYTES],
            traceback="".join(traceback.format_exception(error))[-MAX_EXCEPTION_BYTES:],
            frame=innermost_user_frame(error),
            notes=list(getattr(error, "__notes__", [])),
        )


def worker_main(connection_descriptor: int, lifeline: int) -> None:
    """Takes tasks from a connection until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_when_closed(lifeline)
    connection = Connection(connection_descriptor)
    log = _LogBuffer()
    try:
        start: StartMessage = connection.recv()
        log.start(start.log_level)
        work, slots = _load_work(start)
    except BaseException as error:
        connection.send(ResultMessage(-1, fault=ExceptionInfo.from_exception(error), logged=log.drain()))
        return
    connection.send(None)
    while True:
        try:
            number, slot = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(replace(_run_task(work, number, slots[slot]), logged=log.drain()))


class _LogBuffer(logging.Handler):
    """Keeps what is logged in this process for the main one, which prints it; no more than a message may hold."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Mapping[str, Any]] = []
        self._num_characters = 0
        self.addFilter(should_show)
        self.addFilter(replace_unformattable)

    def start(self, level: int) -> None:
        """Keep all that is logged from now on."""
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(level)
        logging.captureWarnings(True)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._num_characters += len(text)
        if self._num_characters > MAX_LOG_CHARACTERS:
            text = "more was logged for this batch than is passed on"
            if self._records and self._records[-1]["msg"] == text:
                return
        names = ("name", "levelno", "levelname", "pathname", "lineno", "created")
        self._records.append({**{name: getattr(record, name) for name in names}, "msg": text})

    def drain(self) -> Sequence[Mapping[str, Any]]:
        """Return what was logged since the last call."""
        with self.lock or contextlib.nullcontext():
            taken, self._records, self._num_characters = self._records, [], 0
        return taken


def _load_work(start: StartMessage) -> tuple[WorkerFunction, list[SharedFile]]:
    if start.main_file:
        # Under a name for which `if __name__ == "__main__"` is false.
        sys.modules["__main__"].__dict__.update(runpy.run_path(start.main_file, run_name="__mp_main__"))
    packed, progress, *files = [SharedFile(descriptor) for descriptor in start.descriptors]
    work: WorkerFunction = unpack(packed, files[: start.files], copy=False)
    length = len(work.progress)
    work.progress = np.frombuffer(progress.view(8 * length), np.int64)
    work.seconds = np.zeros(len(work.seconds))
    return work, files[start.files :]


def _run_task(work: WorkerFunction, number: int, slot: SharedFile) -> ResultMessage:
    seconds = work.seconds.copy()
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        task = unpack(slot)
        unpacked = time.perf_counter()
        made = work(task)
        worked = time.perf_counter()
        _pack_result(work, made, slot)
        transfer_seconds = time.perf_counter() - worked + unpacked - begin
        return ResultMessage(number, (work.seconds - seconds).tolist(), transfer_seconds, time.process_time() - cpu)
    except Exception as error:
        return ResultMessage(number, fault=ExceptionInfo.from_exception(error))


def _pack_result(work: WorkerFunction, made: Any, slot: SharedFile) -> None:
    try:
        pack(made, slot)
    except Exception as error:
        error.add_note(f"What was made could not be handed over; the last was {work.describe_progress(work.progress)}.")
        raise
