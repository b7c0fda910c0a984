"""Processes: memory, timeouts that ignore suspended time, and termination together with the parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MAX_COUNTED_INTERVAL_S = 1.0
"""Maximum time between two updates that counts as waiting; longer intervals mean that the process was suspended."""
CHECK_INTERVAL_S = 0.1
_PARENT_PIPE_VARIABLE = "TFAIP_LIKE_LIFELINE"


class ActiveTimer:
    """Timer that does not count time in which this process was suspended.

    Clocks keep running while a process is suspended (Ctrl-Z, SIGSTOP, `scontrol suspend`, a paused virtual machine). So
    the time between two updates counts for at most `MAX_COUNTED_INTERVAL_S`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def update(self, counts: bool = True) -> float:
        """Add the time since the last update and return the sum.

        Args:
            counts: whether to count that time.
        """
        now = time.monotonic()
        if counts:
            self.seconds += min(now - self._last, MAX_COUNTED_INTERVAL_S)
        self._last = now
        return self.seconds

    def reset(self) -> None:
        """Reset the timer to 0 seconds."""
        self.seconds, self._last = 0.0, time.monotonic()


def run_with_timeout(seconds: float, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return its output.

    Args:
        seconds: timeout; time in which this process or the program is suspended does not count.
        *words: program and arguments.

    Raises:
        subprocess.TimeoutExpired: if the program takes longer; it is killed.
        OSError: if the program does not exist.
    """
    timer = ActiveTimer()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=MAX_COUNTED_INTERVAL_S / 2)
                return subprocess.CompletedProcess(words, process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                if timer.update(counts=not is_suspended(process.pid)) > seconds:
                    process.kill()
                    raise
            except BaseException:
                process.kill()
                raise


def is_suspended(pid: int) -> bool:
    """Return whether a process is stopped by a signal or a debugger; False if there is no such process."""
    import psutil  # takes 20 ms, which --help can do without

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def resident_memory_mb() -> float:
    """Return the resident set size of this process in MB (10^6 bytes)."""
    import psutil

    return round(psutil.Process().memory_info().rss / 1e6, 1)


def peak_resident_memory_mb() -> float:
    """Return the maximum resident set size of this process so far in MB (10^6 bytes)."""
    try:
        # Not `getrusage`, which on Linux also counts the process that started this one, up to its `exec`.
        status = Path("/proc/self/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)
    except (OSError, ValueError, IndexError):  # macOS
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def session_memory_mb(session: int) -> float:
    """Return the sum of the resident set sizes of all processes of a session in MB (10^6 bytes).

    Args:
        session: process ID of the session leader.
    """
    import psutil

    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # the process has ended
            if os.getsid(process.pid) == session:
                total += process.memory_info().rss
    return total / 1e6


class ParentPipe:
    """Pipe whose write end closes when this process ends, which terminates the child processes that watch it.

    Attributes:
        descriptor: read end, to pass to a child process that calls `exit_when_closed`.
    """

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        _parent_pipes.add(self)

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variable that makes `exit_with_parent` in a child process end it with this process."""
        return {_PARENT_PIPE_VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """Terminate the processes that watch the pipe."""
        for descriptor in (self._writer, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._writer = -1

    def __del__(self) -> None:
        if os is not None:  # None during interpreter shutdown
            self.close()


_parent_pipes: weakref.WeakSet[ParentPipe] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close the write ends in a forked process, which must not keep its parent's children alive."""
    for parent_pipe in list(_parent_pipes):
        parent_pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def exit_when_closed(parent_pipe: int) -> None:
    """Exit this process when the write end of a pipe is closed, at the latest when its holder dies, even by SIGKILL.

    On Linux the kernel sends a signal, because C code may hold the interpreter lock for hours; on other systems a
    thread waits. PR_SET_PDEATHSIG does not work: it is sent when the *thread* that started this process ends.

    Args:
        parent_pipe: descriptor of the read end.
    """
    threading.Thread(target=_exit_at_eof, args=(parent_pipe,), daemon=True).start()
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        # Reopen it: owner and signal are properties of the open file description, which other processes share.
        reopened = os.open(f"/proc/self/fd/{parent_pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(reopened, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(reopened, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(reopened, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def _exit_at_eof(parent_pipe: int) -> None:
    os.read(parent_pipe, 1)
    os._exit(1)


def exit_with_parent() -> None:
    """Exit this process when its parent ends, if the parent requested it with `ParentPipe.environment`."""
    if parent_pipe := os.environ.pop(_PARENT_PIPE_VARIABLE, ""):
        exit_when_closed(int(parent_pipe))


_CHILD_CODE = """
import signal
from tfaip_like._utils.interruption import HANDLED_SIGNALS
from tfaip_like._utils.processes import exit_with_parent
exit_with_parent()
for signum in HANDLED_SIGNALS:  # Ctrl-C reaches this process too, but only its parent decides when to stop
    signal.signal(signum, signal.SIG_IGN)
from {module} import main
main()
"""


def child_code(module: str) -> str:
    """Return the code of a child process that calls `main` of a module and ends with its parent."""
    return _CHILD_CODE.format(module=module)


def run_child_process(
    words: Sequence[str], environment: Mapping[str, str], check: Callable[[], None] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Run a program that calls `exit_with_parent`, so that it does not outlive this process; return its output.

    Args:
        words: program and arguments.
        environment: environment variables of the program.
        check: called while waiting; may raise to end the program.
    """
    parent_pipe = ParentPipe()
    try:
        with subprocess.Popen(
            words,
            env={**environment, **parent_pipe.environment},
            pass_fds=[parent_pipe.descriptor],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while True:
                try:
                    output, errors = process.communicate(timeout=CHECK_INTERVAL_S)
                    return subprocess.CompletedProcess(words, process.returncode, output, errors)
                except subprocess.TimeoutExpired:
                    _check_or_kill(process, check)
                except BaseException:
                    process.kill()
                    raise
    finally:
        parent_pipe.close()


def _check_or_kill(process: subprocess.Popen[str], check: Callable[[], None]) -> None:
    try:
        check()
    except BaseException:
        process.kill()
        raise
