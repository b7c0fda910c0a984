"""What runs in a data process: it takes tasks, works on them, and hands back results.

It is started as a program of its own, without TensorFlow. It ends when the main process ends, however
that ends; Ctrl-C is the main process' business.
"""

from __future__ import annotations

import pickle
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tfaip_like.data.workers.shared import SharedFile, pack, unpack
from tfaip_like.processes import end_with
from tfaip_like.user_code import Frame, users_frame

MOST_BYTES = 20_000
"""Most of an exception that is passed on: messages are so small that they never wait to be read."""
IS_DATA_PROCESS = "TFAIP_LIKE_DATA_PROCESS"
"""Environment variable of a data process."""


class Work(Protocol):
    """What data processes do: a task in, a result out. It is pickled to them once, at their start."""

    at: npt.NDArray[np.int64]
    """Tells what is being worked on; numbers that change while the work goes on."""
    seconds: npt.NDArray[np.float64]
    """Time that each of its stages has taken so far."""

    def __call__(self, task: Any, /) -> Any:
        """The result of a task."""

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """What `at` tells of, for a person."""


@dataclass(frozen=True)
class Start:
    """The first message to a process."""

    descriptors: Sequence[int]
    """Of shared files: the work, `at`, the files of the work, then the slots for results."""
    files: int
    """How many of them are files of the work."""
    main_file: str | None
    """The user's script, where classes of it are needed."""


@dataclass(frozen=True)
class Result:
    """A finished task; what it made lies in its slot."""

    number: int
    seconds: Sequence[float] = ()
    """Time of each stage since the last result."""
    handing_over: float = 0.0
    """Time that packing and unpacking took."""
    cpu: float = 0.0
    """Time of a processor that the task took: less than the whole time, where it waited for a disk."""
    fault: Fault | None = None


@dataclass(frozen=True)
class Fault:
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
    def of(cls, error: BaseException) -> Fault:
        """What another process must know of an exception."""
        try:
            data = pickle.dumps(error)
            pickled = pickle.loads(data) if len(data) < MOST_BYTES else None  # noqa: S301  (just made)
        except Exception:
            pickled = None
        return cls(
            error=pickled if type(pickled) is type(error) else None,
            text=f"{type(error).__name__}: {error}"[:MOST_BYTES],
            traceback="".join(traceback.format_exception(error))[-MOST_BYTES:],
            frame=users_frame(error),
            notes=list(getattr(error, "__notes__", [])),
        )


def serve(connection_descriptor: int, lifeline: int) -> None:
    """Takes tasks from a connection until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(lifeline)
    connection = Connection(connection_descriptor)
    try:
        work, slots = _load(connection.recv())
    except BaseException as error:
        connection.send(Result(-1, fault=Fault.of(error)))
        return
    connection.send(None)
    while True:
        try:
            number, slot = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(_worked(work, number, slots[slot]))


def _load(start: Start) -> tuple[Work, list[SharedFile]]:
    if start.main_file:
        # Under a name for which `if __name__ == "__main__"` is false.
        sys.modules["__main__"].__dict__.update(runpy.run_path(start.main_file, run_name="__mp_main__"))
    packed, at, *files = [SharedFile(descriptor) for descriptor in start.descriptors]
    work: Work = unpack(packed, files[: start.files], copy=False)
    length = len(work.at)
    work.at = np.frombuffer(at.view(8 * length), np.int64)
    work.seconds = np.zeros(len(work.seconds))
    return work, files[start.files :]


def _worked(work: Work, number: int, slot: SharedFile) -> Result:
    seconds = work.seconds.copy()
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        task = unpack(slot)
        unpacked = time.perf_counter()
        made = work(task)
        worked = time.perf_counter()
        _pack_result(work, made, slot)
        handing_over = time.perf_counter() - worked + unpacked - begin
        return Result(number, (work.seconds - seconds).tolist(), handing_over, time.process_time() - cpu)
    except Exception as error:
        return Result(number, fault=Fault.of(error))


def _pack_result(work: Work, made: Any, slot: SharedFile) -> None:
    try:
        pack(made, slot)
    except Exception as error:
        error.add_note(f"What was made could not be handed over; the last was {work.what_is_made(work.at)}.")
        raise
