"""SIGINT, SIGTERM, SIGUSR1 and SIGHUP: the first one stops a training after the running step, a second Ctrl-C at once.

Every delivery is counted in one place, by the byte that Python's own signal handler writes into a pipe the moment the
signal arrives. The Python-level handler runs much later when the main thread is inside TensorFlow; it says that
something arrived, never how often.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Literal, TypeAlias

from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.operating_system import IS_POSIX

logger = logging.getLogger(__name__)

HANDLED_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""SIGUSR1 is sent by clusters shortly before a time limit, SIGHUP when a terminal is closed."""
Phase: TypeAlias = Literal["epoch", "data", "step", "validation"]
"""Moment of a training: the steps of an epoch begin, data are awaited, a step is done, a batch was validated."""
PhaseHook: TypeAlias = Callable[[Phase], None]
FORCED_EXIT_TIMEOUT_S = 3.0
"""After a second Ctrl-C the main thread gets this long to leave; then the process ends, whatever the thread does."""
_exits_on_interrupt: ContextVar[bool] = ContextVar("ends_process", default=False)


@contextmanager
def process_exit_on_interrupt() -> Iterator[None]:
    """Declare that this process ends when the block is stopped by a signal.

    Signals that arrive again while it saves its last files and ends are then ignored, and a Ctrl-C ends it without a
    traceback. Clusters and wrappers repeat signals, and the exit code must say that the run was stopped in order.
    """
    token = _exits_on_interrupt.set(True)
    try:
        yield
    finally:
        _exits_on_interrupt.reset(token)


class InterruptFlag:
    """Stop request of a person or a cluster, made by signals.

    The first signal requests a stop after the running step. SIGINT again, after the first was acknowledged, requests a
    stop at once: that is a person who reads the console. All other signals repeat the first request and must not cost
    the state that is being saved: clusters send SIGUSR1, SIGTERM and at last SIGKILL, and wrappers forward copies.
    """

    def __init__(self, phase_hook: PhaseHook | None = None) -> None:
        self.signum: signal.Signals | None = None
        self._phase_hook = phase_hook
        self.is_forced = False
        self.checks: list[Callable[[], None]] = []
        """What else may raise to stop, wherever a signal may."""
        self._is_acknowledged = False
        self._num_sigint = 0
        self._is_disarmed = False
        self._has_unwound = threading.Event()

    def record_signals(self, signums: bytes) -> None:
        """Count deliveries of signals, one byte each, in the order of their arrival."""
        for signum in signums:
            if signum not in HANDLED_SIGNALS:
                continue
            if self.signum is None:
                self.signum = signal.Signals(signum)
            if signum == signal.SIGINT and (self._is_acknowledged or self._num_sigint == 0):
                self._num_sigint += 1
            self.is_forced = self._num_sigint > 1

    def acknowledge(self) -> None:
        """Count another SIGINT as a further request from now on.

        Deliveries before are copies of the first: a terminal signals all its processes, and wrappers pass it on.
        """
        self._is_acknowledged = True

    def check(self) -> None:
        """Raise `Interrupted` if a stop is requested. Called between steps, and by code that waits."""
        for check in self.checks:
            check()
        if self.signum is not None and not self._is_disarmed:
            raise Interrupted(self.signum)

    def report_phase(self, phase: Phase) -> None:
        """Report that a training has reached a phase; `--verify` interrupts it there."""
        if self._phase_hook is not None:
            self._phase_hook(phase)

    def disarm(self) -> None:
        """Ignore signals from now on: the work is done, and a late signal must not turn it into a failure."""
        self._is_disarmed = True

    def mark_unwound(self) -> None:
        """Report that the exception of a stop at once has arrived where it is handled."""
        self._has_unwound.set()

    def wait_unwound(self, timeout_s: float) -> bool:
        """Wait for `mark_unwound`; return whether it was called."""
        return self._has_unwound.wait(timeout_s)


class _SignalPipe:
    """Pipe into which Python's signal handler writes the signum of each signal that arrives."""

    def __init__(self, flag: InterruptFlag):
        self._flag = flag
        self._lock = threading.RLock()  # the handler may interrupt `drain` in the main thread
        self._read_end, self.write_end = os.pipe()
        for end in (self._read_end, self.write_end):
            os.set_blocking(end, False)

    def drain(self) -> None:
        """Pass everything that has arrived to the flag."""
        with self._lock, suppress(BlockingIOError):
            while arrived := os.read(self._read_end, 256):
                self._flag.record_signals(arrived)

    def wake(self) -> None:
        """End a `wait` of another thread, from which `drain` may have taken what it waits for."""
        with suppress(BlockingIOError):
            os.write(self.write_end, b"\0")

    def wait(self) -> bool:
        """Wait for a delivery; return False when the pipe was closed for writing."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll())

    def close(self) -> None:
        """Close the end that is read."""
        os.close(self._read_end)


@contextmanager
def graceful_shutdown_signals(
    acknowledgement: str = "", phase_hook: PhaseHook | None = None
) -> Iterator[InterruptFlag]:
    """Note signals instead of raising anywhere; in the main thread only.

    Args:
        acknowledgement: logged after the first signal, behind its name.
        phase_hook: called with each phase that is reached.

    Python runs handlers in the main thread, which may be inside TensorFlow and wait there for a batch that never
    comes. So a thread of its own watches the deliveries: it sets the flag, which those who make the batch check, and
    after a second Ctrl-C it ends the process if the main thread does not get to it.
    """
    flag = InterruptFlag(phase_hook)
    if not IS_POSIX or threading.current_thread() is not threading.main_thread():
        yield flag
        return

    deliveries = _SignalPipe(flag)

    def handle(signum: int, frame: FrameType | None) -> None:
        deliveries.drain()
        deliveries.wake()
        if flag.is_forced:
            raise Interrupted(signal.Signals(signum), forced=True)

    # A signal that is ignored from the start stays so: that is what nohup asks for.
    caught = [signum for signum in HANDLED_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    handlers = {signum: signal.signal(signum, handle) for signum in caught}
    wakeup_before = signal.set_wakeup_fd(deliveries.write_end, warn_on_full_buffer=False)
    watcher = threading.Thread(
        target=_watch_signals, args=(deliveries, flag, acknowledgement), name="signals", daemon=True
    )
    watcher.start()
    try:
        yield flag
    finally:
        flag.mark_unwound()
        flag.checks.clear()  # they hold what was trained, and somebody may keep the flag
        signal.set_wakeup_fd(wakeup_before)
        for signum, handler in handlers.items():
            signal.signal(
                signum, _handler_after_interrupt(signum) if flag.signum and _exits_on_interrupt.get() else handler
            )
        os.close(deliveries.write_end)
        watcher.join()
        deliveries.close()


def _handler_after_interrupt(signum: signal.Signals) -> signal.Handlers:
    return signal.SIG_DFL if signum == signal.SIGINT else signal.SIG_IGN


def _watch_signals(deliveries: _SignalPipe, flag: InterruptFlag, acknowledgement: str) -> None:
    """Collect deliveries until the pipe is closed; acknowledge the first, enforce a stop at once."""
    is_acknowledged = False
    while deliveries.wait():
        deliveries.drain()
        if flag.signum is not None and not is_acknowledged:
            is_acknowledged = True
            if acknowledgement:
                logger.warning("%s: %s", flag.signum.name, acknowledgement)
            deliveries.drain()  # copies of the first
            flag.acknowledge()
        # The exception may get lost: Python drops what is raised in a destructor or in a callback of the garbage
        # collector, and the main thread may be in a call that never returns.
        if flag.is_forced and not flag.wait_unwound(FORCED_EXIT_TIMEOUT_S):
            assert flag.signum is not None
            os._exit(Interrupted(flag.signum).exit_code)
