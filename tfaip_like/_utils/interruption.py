"""Graceful shutdown on SIGINT, SIGTERM, SIGUSR1 and SIGHUP.

The first signal stops training after the current step, a second Ctrl-C immediately. Deliveries are counted by the
bytes that Python's C-level signal handler writes into a pipe on arrival. The Python-level handler runs much later
while the main thread is inside TensorFlow, and does not know how many signals arrived.
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
"""Handled signals; clusters send SIGUSR1 shortly before a time limit, terminals SIGHUP when they are closed."""
Phase: TypeAlias = Literal["epoch", "data", "step", "validation"]
"""Point in training: start of an epoch, waiting for data, end of a step, a batch was validated."""
PhaseHook: TypeAlias = Callable[[Phase], None]
FORCED_EXIT_TIMEOUT_S = 3.0
"""Time for the main thread to unwind after a second Ctrl-C; then the process exits."""
_exits_on_interrupt: ContextVar[bool] = ContextVar("ends_process", default=False)


@contextmanager
def process_exit_on_interrupt() -> Iterator[None]:
    """Declare that this process exits when a signal interrupts the block.

    Further signals are then ignored while the process saves its last files and exits, and Ctrl-C ends it without a
    traceback. Clusters and wrappers repeat signals, and the exit code must show a graceful shutdown.
    """
    token = _exits_on_interrupt.set(True)
    try:
        yield
    finally:
        _exits_on_interrupt.reset(token)


class InterruptFlag:
    """Stop request made by signals.

    The first signal requests a stop after the current step. Another SIGINT, after the first was acknowledged on the
    console, requests an immediate stop. All other signals repeat the first request and must not interrupt saving:
    clusters send SIGUSR1, SIGTERM and finally SIGKILL, and wrappers forward copies.

    Args:
        phase_hook: called with each phase that training reaches.
    """

    def __init__(self, phase_hook: PhaseHook | None = None) -> None:
        self.signum: signal.Signals | None = None
        self._phase_hook = phase_hook
        self.is_forced = False
        self.checks: list[Callable[[], None]] = []
        """Further checks that may raise to stop training, called by `check`."""
        self._is_acknowledged = False
        self._num_sigint = 0
        self._is_disarmed = False
        self._has_unwound = threading.Event()

    def record_signals(self, signums: bytes) -> None:
        """Count deliveries of signals, one byte each, in order of arrival."""
        for signum in signums:
            if signum not in HANDLED_SIGNALS:
                continue
            if self.signum is None:
                self.signum = signal.Signals(signum)
            if signum == signal.SIGINT and (self._is_acknowledged or self._num_sigint == 0):
                self._num_sigint += 1
            self.is_forced = self._num_sigint > 1

    def acknowledge(self) -> None:
        """Count further SIGINTs as requests for an immediate stop.

        Earlier deliveries are copies of the first: a terminal signals all its processes, and wrappers forward signals.
        """
        self._is_acknowledged = True

    def check(self) -> None:
        """Raise `Interrupted` if a stop is requested; called between steps and while waiting."""
        for check in self.checks:
            check()
        if self.signum is not None and not self._is_disarmed:
            raise Interrupted(self.signum)

    def report_phase(self, phase: Phase) -> None:
        """Report that training has reached a phase; `--verify` interrupts it there."""
        if self._phase_hook is not None:
            self._phase_hook(phase)

    def disarm(self) -> None:
        """Ignore further signals: the work is done, and a late signal must not turn it into a failure."""
        self._is_disarmed = True

    def restore_exception(self, error: BaseException) -> BaseException:
        """Return the exception of an immediate stop, if an error of a library has taken its place.

        JAX and TensorFlow do that to exceptions that are raised while compiled code calls Python.
        """
        is_stop = isinstance(error, Interrupted)
        if not self.is_forced or self.signum is None or is_stop or Interrupted.__name__ not in str(error):
            return error
        return Interrupted(self.signum, forced=True)

    def mark_unwound(self) -> None:
        """Report that the exception of an immediate stop has reached its handler."""
        self._has_unwound.set()

    def wait_unwound(self, timeout_s: float) -> bool:
        """Wait for `mark_unwound`; return whether it was called."""
        return self._has_unwound.wait(timeout_s)


class _SignalPipe:
    """Pipe into which Python's signal handler writes the number of each signal that arrives."""

    def __init__(self, flag: InterruptFlag):
        self._flag = flag
        self._lock = threading.RLock()  # the handler may interrupt `drain` in the main thread
        self._read_end, self.write_end = os.pipe()
        for end in (self._read_end, self.write_end):
            os.set_blocking(end, False)

    def drain(self) -> None:
        """Pass all arrived signals to the flag."""
        with self._lock, suppress(BlockingIOError):
            while arrived := os.read(self._read_end, 256):
                self._flag.record_signals(arrived)

    def wake(self) -> None:
        """Wake up a `wait` in another thread, whose bytes `drain` may have consumed."""
        with suppress(BlockingIOError):
            os.write(self.write_end, b"\0")

    def wait(self) -> bool:
        """Wait for a delivery; return False if the write end of the pipe was closed."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll())

    def close(self) -> None:
        """Close the read end."""
        os.close(self._read_end)


@contextmanager
def graceful_shutdown_signals(
    acknowledgement: str = "", phase_hook: PhaseHook | None = None
) -> Iterator[InterruptFlag]:
    """Record signals in a flag within the block instead of raising anywhere; in the main thread only.

    Python runs handlers in the main thread, which may be inside TensorFlow, waiting for a batch that never arrives. So
    a separate thread watches the deliveries: it sets the flag, which the data pipeline checks, and after a second
    Ctrl-C it exits the process if the main thread does not unwind in time.

    Args:
        acknowledgement: text logged after the name of the first signal.
        phase_hook: called with each phase that training reaches.

    Yields:
        The flag.
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

    # Signals that are ignored from the start stay ignored, as nohup requires.
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
        flag.checks.clear()  # they reference the training state, and a caller may keep the flag
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
    """Collect deliveries until the pipe is closed; acknowledge the first, enforce an immediate stop."""
    is_acknowledged = False
    while deliveries.wait():
        deliveries.drain()
        if flag.signum is not None and not is_acknowledged:
            is_acknowledged = True
            if acknowledgement:
                logger.warning("%s: %s", flag.signum.name, acknowledgement)
            deliveries.drain()  # copies of the first
            flag.acknowledge()
        # The exception may get lost: Python drops exceptions raised in destructors and garbage-collector callbacks,
        # and the main thread may be in a call that never returns.
        if flag.is_forced and not flag.wait_unwound(FORCED_EXIT_TIMEOUT_S):
            assert flag.signum is not None
            os._exit(Interrupted(flag.signum).exit_code)
