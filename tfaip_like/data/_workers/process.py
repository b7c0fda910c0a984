"""Main loop of a data worker: receive tasks, run them, send back results.

A worker is a separate Python program without TensorFlow. It exits when the main process exits for any reason, and
leaves Ctrl-C to the main process.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import Frame, innermost_user_frame
from tfaip_like._utils.console import replace_unformattable, should_show
from tfaip_like._utils.processes import exit_when_closed
from tfaip_like.data._workers.shared_memory import SharedFile, pack, unpack, unpack_views

MAX_EXCEPTION_BYTES = 20_000
"""Upper limit for a transferred exception: messages that fit into the socket buffer never block."""
MAX_LOG_CHARACTERS = 4_000
"""Upper limit for the log output sent with a result."""
WORKER_ENV_VAR = "TFAIP_LIKE_DATA_WORKER"
"""Environment variable set in data workers."""


class WorkerFunction(Protocol):
    """Function of a task, run by data workers; pickled to them once, when they start."""

    progress: npt.NDArray[np.int64]
    """Progress marker: integers that change while the function makes progress."""
    seconds: npt.NDArray[np.float64]
    """Cumulative time of each stage."""

    def __call__(self, task: Any, /) -> Any:
        """Return the result of a task."""

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe a progress marker in words."""


@runtime_checkable
class AllocatingFunction(Protocol):
    """Function of a task that allocates the arrays of its result."""

    allocate: Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
    """Function like `numpy.empty`; in a data worker, it returns arrays in the shared memory of the result."""


@dataclass(frozen=True)
class StartMessage:
    """First message to a worker."""

    descriptors: Sequence[int]
    """Descriptors of shared files: worker function, progress marker, files of the function, slots for results."""
    files: int
    """Number of files of the worker function."""
    main_file: str | None
    """User script to import classes from; None if not needed."""
    log_level: int
    """Log level of the main process."""


@dataclass(frozen=True)
class ResultMessage:
    """Message about a finished task; its result is in its slot."""

    number: int
    seconds: Sequence[float] = ()
    """Time of each stage since the previous result."""
    transfer_seconds: float = 0.0
    """Time for packing and unpacking."""
    cpu: float = 0.0
    """CPU time of the task in seconds; less than the wall-clock time if it waited for a disk."""
    fault: ExceptionInfo | None = None
    logged: Sequence[Mapping[str, Any]] = ()
    """Attributes of the log records since the previous result."""


@dataclass(frozen=True)
class ExceptionInfo:
    """Exception in a form that can be sent to another process."""

    error: BaseException | None
    """The exception itself; None if it cannot be pickled."""
    text: str
    """Type and message."""
    traceback: str
    frame: Frame | None
    """Line of user code that raised it."""
    notes: Sequence[str] = field(default_factory=list)

    @classmethod
    def from_exception(cls, error: BaseException) -> ExceptionInfo:
        """Build the transferable form of an exception."""
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
    """Run tasks received over a connection until it is closed."""
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
    """Log handler that buffers records for the main process, up to `MAX_LOG_CHARACTERS`."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Mapping[str, Any]] = []
        self._num_characters = 0
        self.addFilter(should_show)
        self.addFilter(replace_unformattable)

    def start(self, level: int) -> None:
        """Install the handler."""
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(level)
        logging.captureWarnings(True)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._num_characters += len(text)
        if self._num_characters > MAX_LOG_CHARACTERS:
            text = "log output of this batch truncated"
            if self._records and self._records[-1]["msg"] == text:
                return
        names = ("name", "levelno", "levelname", "pathname", "lineno", "created")
        self._records.append({**{name: getattr(record, name) for name in names}, "msg": text})

    def drain(self) -> Sequence[Mapping[str, Any]]:
        """Return and clear the buffered records."""
        with self.lock or contextlib.nullcontext():
            records, self._records, self._num_characters = self._records, [], 0
        return records


def _load_work(start: StartMessage) -> tuple[WorkerFunction, list[SharedFile]]:
    if start.main_file:
        # A name for which `if __name__ == "__main__"` is false.
        sys.modules["__main__"].__dict__.update(runpy.run_path(start.main_file, run_name="__mp_main__"))
    packed, progress, *files = [SharedFile(descriptor) for descriptor in start.descriptors]
    work: WorkerFunction = unpack_views(packed, files[: start.files])
    length = len(work.progress)
    work.progress = np.frombuffer(progress.view(8 * length), np.int64)
    work.seconds = np.zeros(len(work.seconds))
    return work, files[start.files :]


def _run_task(work: WorkerFunction, number: int, slot: SharedFile) -> ResultMessage:
    seconds = work.seconds.copy()
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        task = unpack(slot)
        slot.start_over()
        if isinstance(work, AllocatingFunction):
            work.allocate = slot.allocate
        unpacked = time.perf_counter()
        result = work(task)
        worked = time.perf_counter()
        _pack_result(work, result, slot)
        transfer_seconds = time.perf_counter() - worked + unpacked - begin
        return ResultMessage(number, (work.seconds - seconds).tolist(), transfer_seconds, time.process_time() - cpu)
    except Exception as error:
        return ResultMessage(number, fault=ExceptionInfo.from_exception(error))


def _pack_result(work: WorkerFunction, result: Any, slot: SharedFile) -> None:
    try:
        pack(result, slot)
    except Exception as error:
        error.add_note(f"The result cannot be pickled; last sample: {work.describe_progress(work.progress)}.")
        raise
