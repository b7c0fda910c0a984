"""Other processes: whether they run, how long we have waited for them, and that they end with us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

LONGEST_INTERVAL = 1.0
"""Seconds between two looks that count as waiting; whoever does not look for longer was suspended, or busy."""
_LIFELINE = "TFAIP_LIKE_LIFELINE"


class Patience:
    """Time that this process has waited, by its own looks.

    A clock goes on while a process is suspended (Ctrl-Z, SIGSTOP, `scontrol suspend`, a frozen virtual machine). So
    the time between two looks counts for at most `LONGEST_INTERVAL`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def look(self, counts: bool = True) -> float:
        """Add the time since the last look and return the sum.

        Args:
            counts: whether that time counts.
        """
        now = time.monotonic()
        if counts:
            self.seconds += min(now - self._last, LONGEST_INTERVAL)
        self._last = now
        return self.seconds

    def reset(self) -> None:
        """Begin again with 0 seconds."""
        self.seconds, self._last = 0.0, time.monotonic()


def run_within(seconds: float, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return what it said; time in which this process was suspended does not count.

    Raises:
        subprocess.TimeoutExpired: when it takes longer; it is killed then.
        OSError: when there is no such program.
    """
    patience = Patience()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            try:
                said, errors = process.communicate(timeout=LONGEST_INTERVAL / 2)
                return subprocess.CompletedProcess(words, process.returncode, said, errors)
            except subprocess.TimeoutExpired:
                if patience.look(counts=not is_suspended(process.pid)) > seconds:
                    process.kill()
                    raise
            except BaseException:
                process.kill()
                raise


def is_suspended(pid: int) -> bool:
    """Return whether a process is stopped by a signal or a debugger; False where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])


class Lifeline:
    """A pipe that tells other processes that this one has ended: nobody can write to it any more.

    Attributes:
        descriptor: of the reading end, to be handed to a process that calls `end_with`.
    """

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        _lifelines.add(self)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variable that asks a program of ours to end with this process."""
        return {_LIFELINE: str(self.descriptor)}

    def cut(self) -> None:
        """End the processes that hang on it."""
        for descriptor in (self._writer, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._writer = -1

    def __del__(self) -> None:
        if os is not None:  # it is at the end of the program
            self.cut()


_lifelines: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _cut_in_child() -> None:
    """Let go of the writing ends: a forked process must not keep alive what hangs on its parent."""
    for lifeline in list(_lifelines):
        lifeline.cut()


os.register_at_fork(after_in_child=_cut_in_child)


def end_with(lifeline: int) -> None:
    """End this process when the writing end of a pipe is closed: at the latest when its holder ends, even by SIGKILL.

    The kernel does it, because C code may keep the interpreter lock for hours; a thread does it on other systems.
    PR_SET_PDEATHSIG would not do: it is sent when the *thread* ends that started this process.
    """
    threading.Thread(target=_exit_after, args=(lifeline,), daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):
        # Opened again: owner and signal belong to the open file, which other processes share.
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def _exit_after(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def end_with_starter() -> None:
    """End this process when the one that started it ends, where that asked for it; see `Lifeline.environment`."""
    if lifeline := os.environ.pop(_LIFELINE, ""):
        end_with(int(lifeline))


def run_with_us(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program that calls `end_with_starter`, and return what it said; it does not outlive this process."""
    lifeline = Lifeline()
    try:
        return subprocess.run(
            words,
            env={**environment, **lifeline.environment},
            pass_fds=[lifeline.descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        lifeline.cut()
