"""Processes that work on tasks; their results come in the order of the tasks.

Every task is a pure function of what it says, so a process that dies is started again and its tasks
with it; a sample that kills it twice is named.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from socket import socketpair
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data.workers.process import IS_DATA_PROCESS, Fault, Result, Start, Work
from tfaip_like.data.workers.shared import SharedFile, Sizes, pack, unpack
from tfaip_like.errors import TrainingError, UsageError
from tfaip_like.user_code import came_from

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 1.0
MOST_RESTARTS = 5


class DataProcessError(TrainingError):
    """A data process died or hangs, though nothing was raised in it."""


class CannotBeSentError(UsageError):
    """The work holds what another process cannot have."""


class RemoteError(Exception):
    """An exception of a data process that could not be sent; its text is."""


class Workers:
    """Some processes that do the same work.

    Args:
        work: what they do; given to them once. Its large arrays are shared, not copied.
        count: number of processes.
        ahead: most tasks that are begun before their results are asked for.
        timeout_seconds: a process whose `at` does not change for this long hangs; 0 for no limit.
        check: called while waiting; may raise to stop.

    Attributes:
        seconds: time that each stage of the work has taken in all processes.
        waits: time that was spent waiting for results.
        handing_over: time that packing and unpacking took, in all processes and in this one.
        cpu: time of a processor that the tasks took.
    """

    def __init__(
        self,
        work: Work,
        count: int,
        ahead: int,
        timeout_seconds: float = 0,
        check: Callable[[], None] = lambda: None,
    ):
        _refuse_in_a_data_process()
        self.work = work
        self.count = count
        self.ahead = max(ahead, count)
        self.timeout_seconds = timeout_seconds
        self.check = check
        self.seconds = np.zeros(len(work.seconds))
        self.waits = self.handing_over = self.cpu = 0.0
        self._files: list[SharedFile] = []
        self._arrays = SharedFile.in_memory()
        self._sizes = _packed(work, self._arrays, self._files)
        self._main_file = _main_file(bytes(self._arrays.view(self._sizes[0])))
        self._lifeline, self._hold = os.pipe()
        self._numbers = itertools.count()
        self._run = 0
        self._restarts = 0
        self._killers: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False
        slots = math.ceil(self.ahead / count) + 1
        self._processes = [_Process(self._start_message, self._lifeline, len(work.at), slots) for _ in range(count)]

    def run(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The results of tasks, in their order. A call ends the one before.

        Raises:
            Exception: what was raised in a process, when the results before it were taken.
            DataProcessError: when a process died or hangs; it names what was worked on.
        """
        self._run += 1
        run = self._run
        expected: deque[int] = deque()
        results: dict[int, Taken] = {}
        rest = iter(tasks)
        while run == self._run and not self._closed:
            while len(expected) < self.ahead and (process := self._free_process()):
                try:
                    task = next(rest)
                except StopIteration:
                    break
                expected.append(next(self._numbers))
                process.begin(expected[-1], task)
            if not expected:
                return
            number = expected.popleft()
            begin = time.perf_counter()
            while number not in results:
                with self._lock:
                    if run != self._run or self._closed:
                        return
                    self._receive(results, number)
            self.waits += time.perf_counter() - begin
            taken = results.pop(number)
            if taken.fault is not None:
                raise _raised(taken.fault)
            yield taken.value

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [process.pid for process in self._processes]

    def ready(self) -> int:
        """How many results could be had without waiting."""
        return sum(process.connection.poll() for process in self._processes)

    def nbytes(self) -> int:
        """Size of the memory for results and of the arrays that all processes share."""
        return len(self._arrays) + sum(len(slot) for process in self._processes for slot in process.slots)

    def close(self) -> None:
        """Ends all processes."""
        if self._closed:
            return
        self._closed = True
        with self._lock:  # nobody takes their end for a death
            os.close(self._hold)
            os.close(self._lifeline)
        for process in self._processes:
            process.end()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_message(self, at: SharedFile, slots: list[SharedFile]) -> tuple[Start, list[SharedFile]]:
        files = [self._arrays, at, *self._files, *slots]
        return Start(self._sizes, [f.descriptor for f in files], len(self._files), self._main_file), files

    def _free_process(self) -> _Process | None:
        process = min(self._processes, key=lambda process: len(process.tasks))
        return process if process.free else None

    def _receive(self, results: dict[int, Taken], awaited: int) -> None:
        """Takes what is there, or waits a little."""
        ready = wait([process.connection for process in self._processes], SECONDS_BETWEEN_LOOKS)
        self.check()
        for process in self._processes:
            if process.connection in ready:
                try:
                    taken = process.take()
                except (EOFError, OSError):
                    self._died(process)
                    continue
                if taken is not None:
                    results[taken.number] = taken
                    if taken.seconds:
                        self.seconds += taken.seconds
                    self.handing_over += taken.handing_over
                    self.cpu += taken.cpu
        if awaited not in results and self.timeout_seconds:
            holder = next((process for process in self._processes if awaited in process.tasks), None)
            if holder is not None and holder.seconds_without_change() > self.timeout_seconds:
                raise DataProcessError(
                    f"a data process has worked for more than {self.timeout_seconds:g} s on "
                    f"{self.work.what_is_made(holder.at)}.\n"
                    "If that is no mistake, allow it more time with timeout_seconds (0: for ever)."
                )

    def _died(self, process: _Process) -> None:
        """Starts a process that died again, unless it would die again."""
        code = process.exit_code()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        memory = " Was there too little memory?" if code == -9 else ""
        if not process.is_ready:
            raise DataProcessError(f"a data process {how} while it started.{memory}")
        place = self.work.what_is_made(process.at)
        self._restarts += 1
        if place in self._killers or self._restarts > MOST_RESTARTS:
            what = "a second time " if place in self._killers else f"(the {self._restarts}th to die) "
            raise DataProcessError(f"a data process {how}, {what}while it worked on {place}.{memory}")
        self._killers.add(place)
        logger.warning("a data process %s while it worked on %s; it is started again.%s", how, place, memory)
        process.start_again()


@dataclass(frozen=True)
class Taken:
    """A result as it came."""

    number: int
    value: Any
    seconds: Sequence[float]
    handing_over: float
    cpu: float
    fault: Fault | None


class _Process:
    """A data process and the tasks it has."""

    def __init__(self, start_message: Callable[..., Any], lifeline: int, length_of_at: int, slots: int):
        self._start_message = start_message
        self._lifeline = lifeline
        self._at_file = SharedFile.in_memory()
        self.at: npt.NDArray[np.int64] = np.frombuffer(self._at_file.view(8 * length_of_at), np.int64)
        self.slots = [SharedFile.in_memory() for _ in range(slots)]
        self.free = list(range(slots))
        self.tasks: dict[int, tuple[int, Any]] = {}
        """Number of each task that is not done -> its slot and what it is."""
        self._seen: tuple[float, bytes] = (time.monotonic(), b"")
        self._start()

    def _start(self) -> None:
        self.is_ready = False
        message, files = self._start_message(self._at_file, self.slots)
        ours, theirs = socketpair()
        with theirs:
            descriptors = [theirs.fileno(), self._lifeline, *(file.descriptor for file in files)]
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _program(theirs.fileno(), self._lifeline)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                env={**os.environ, IS_DATA_PROCESS: "1", "CUDA_VISIBLE_DEVICES": ""},
            )
        self.connection = Connection(ours.detach())
        self.connection.send(message)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def begin(self, number: int, task: Any) -> None:
        """Hands it a task."""
        slot = self.free.pop()
        self.tasks[number] = (slot, task)
        self._send(number)

    def _send(self, number: int) -> None:
        # Messages are small, large things go through the slot: neither side ever waits to be read.
        slot, task = self.tasks[number]
        with contextlib.suppress(OSError):  # it is dead, which is found when its results are waited for
            self.connection.send((number, slot, pack(task, self.slots[slot])))

    def take(self) -> Taken | None:
        """The result that has come; None for the note that it is ready to work."""
        result: Result | None = self.connection.recv()
        self.is_ready = True
        if result is None:
            return None
        if result.number < 0 and result.fault is not None:
            raise _raised(result.fault)
        slot, _ = self.tasks.pop(result.number)
        begin = time.perf_counter()
        value = None if result.fault else unpack(result.sizes, self.slots[slot])
        handing_over = result.handing_over + time.perf_counter() - begin
        self.free.append(slot)
        return Taken(result.number, value, result.seconds, handing_over, result.cpu, result.fault)

    def seconds_without_change(self) -> float:
        """For how long `at` has been the same."""
        now = self.at.tobytes() if self.is_ready else b""
        if now != self._seen[1]:
            self._seen = (time.monotonic(), now)
        return time.monotonic() - self._seen[0]

    def start_again(self) -> None:
        """Starts it anew, with the tasks that it has."""
        self.connection.close()
        self._start()
        for number in self.tasks:
            self._send(number)

    def exit_code(self) -> int:
        """How it ended."""
        return self._popen.wait()

    def end(self) -> None:
        """Waits a moment for it to end, then kills it."""
        try:
            self._popen.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _program(connection: int, lifeline: int) -> str:
    path = json.dumps(sys.path)
    return (
        f"import sys; sys.path[:] = {path}\n"
        "from tfaip_like.data.workers.process import serve\n"
        f"serve({connection}, {lifeline})"
    )


def _packed(work: Work, arrays: SharedFile, files: list[SharedFile]) -> Sizes:
    try:
        return pack(work, arrays, files)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CannotBeSentError(
            f"{type(error).__name__}: {error}.\nWhat data processes use must be importable (a class at the top of a "
            "module) and hold nothing that belongs to one process; or set num_processes to 0"
        ) from error


def _main_file(pickled: bytes) -> str | None:
    """The user's script, if classes of it are in the work."""
    if b"__main__" not in pickled:
        return None
    file: str | None = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise CannotBeSentError(
            "data processes cannot find classes that were defined in a notebook or at a prompt; write them "
            "into a file, or set num_processes to 0"
        )
    return os.path.abspath(file)


def _refuse_in_a_data_process() -> None:
    if os.environ.get(IS_DATA_PROCESS):
        raise UsageError(
            "a data process imported your script, and that started a training: put what is to run once "
            'below `if __name__ == "__main__":`'
        )


def _raised(fault: Fault) -> BaseException:
    """An exception of a process, with the user's line and the whole traceback for those who ask."""
    error = fault.error if fault.error is not None else RemoteError(fault.text)
    error.__notes__ = list(fault.notes)
    came_from(error, fault.frame)
    error.__cause__ = RemoteError(f"in a data process:\n{fault.traceback}")
    return error
