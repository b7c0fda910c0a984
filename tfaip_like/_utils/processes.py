"""Other processes: whether they run, how long we have waited for them, and that they end with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

MAX_COUNTED_INTERVAL_S = 1.0
"""Seconds between two looks that count as waiting; whoever does not update for longer was suspended, or busy."""
_PARENT_PIPE_VARIABLE = "TFAIP_LIKE_LIFELINE"


class ActiveTimer:
    """Time that this process has waited, by its own looks.

    A clock goes on while a process is suspended (Ctrl-Z, SIGSTOP, `scontrol suspend`, a frozen virtual machine). So
    the time between two looks counts for at most `MAX_COUNTED_INTERVAL_S`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def update(self, counts: bool = True) -> float:
        """Add the time since the last update and return the sum.

        Args:
            counts: whether that time counts.
        """
        now = time.monotonic()
        if counts:
            self.seconds += min(now - self._last, MAX_COUNTED_INTERVAL_S)
        self._last = now
        return self.seconds

    def reset(self) -> None:
        """Begin again with 0 seconds."""
        self.seconds, self._last = 0.0, time.monotonic()


def run_with_timeout(seconds: float, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return what it said; time in which this process was suspended does not count.

    Raises:
        subprocess.TimeoutExpired: when it takes longer; it is killed then.
        OSError: when there is no such program.
    """
    timer = ActiveTimer()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            try:
                said, errors = process.communicate(timeout=MAX_COUNTED_INTERVAL_S / 2)
                return subprocess.CompletedProcess(words, process.returncode, said, errors)
            except subprocess.TimeoutExpired:
                if timer.update(counts=not is_suspended(process.pid)) > seconds:
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


class ParentPipe:
    """A pipe that tells other processes that this one has ended: nobody can write to it any more.

    Attributes:
        descriptor: of the reading end, to be handed to a process that calls `exit_when_closed`.
    """

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        _parent_pipes.add(self)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variable that asks a program of ours to end with this process."""
        return {_PARENT_PIPE_VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """End the processes that hang on it."""
        for descriptor in (self._writer, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._writer = -1

    def __del__(self) -> None:
        if os is not None:  # it is at the end of the program
            self.close()


_parent_pipes: weakref.WeakSet[ParentPipe] = weakref.WeakSet()


def _close_in_child() -> None:
    """Let go of the writing ends: a forked process must not keep alive what hangs on its parent."""
    for parent_pipe in list(_parent_pipes):
        parent_pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def exit_when_closed(parent_pipe: int) -> None:
    """End this process when the writing end of a pipe is closed: at the latest when its holder ends, even by SIGKILL.

    The kernel does it, because C code may keep the interpreter lock for hours; a thread does it on other systems.
    PR_SET_PDEATHSIG would not do: it is sent when the *thread* ends that started this process.
    """
    threading.Thread(target=_exit_at_eof, args=(parent_pipe,), daemon=True).start()
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        # Opened again: owner and signal belong to the open file, which other processes share.
        own = os.open(f"/proc/self/fd/{parent_pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def _exit_at_eof(parent_pipe: int) -> None:
    os.read(parent_pipe, 1)
    os._exit(1)


def exit_with_parent() -> None:
    """End this process when the one that started it ends, where that asked for it; see `Lifeline.environment`."""
    if parent_pipe := os.environ.pop(_PARENT_PIPE_VARIABLE, ""):
        exit_when_closed(int(parent_pipe))


def run_child_process(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program that calls `exit_with_parent`, and return what it said; it does not outlive this process."""
    parent_pipe = ParentPipe()
    try:
        return subprocess.run(
            words,
            env={**environment, **parent_pipe.environment},
            pass_fds=[parent_pipe.descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        parent_pipe.close()
