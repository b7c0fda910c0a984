"""Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP: the first one ends the training between two steps, a second one at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tfaip_like.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""SIGUSR1 is what clusters send when a time limit is near, SIGHUP what comes when a terminal is closed."""
SECONDS_OF_ONE = 0.3
"""Signals that come so close to the first are the same: a wrapper passes on what the terminal sent to all."""
SECONDS_TO_RAISE = 1.0
"""A second signal raises in the main thread; if that does not get there, the process ends."""


class InterruptFlag:
    """Whether, and by which signal, the training was asked to stop."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self._since = 0.0
        self._is_over = False

    def set(self, number: int) -> None:
        """Notes the first signal."""
        if self.number is None:
            self.number, self._since = signal.Signals(number), time.monotonic()

    def is_second(self) -> bool:
        """Whether a signal that comes now is another one than the first."""
        return self.number is not None and time.monotonic() - self._since > SECONDS_OF_ONE

    def check(self) -> None:
        """Raises `Interrupted` if so; called between steps, where everything is in order, and by those who wait."""
        if self.number is not None and not self._is_over:
            raise Interrupted(self.number)

    def nothing_to_stop(self) -> None:
        """Says that what could be stopped is done: a late signal must not make a failure of it."""
        self._is_over = True


@contextmanager
def catch_interrupts() -> Iterator[InterruptFlag]:
    """Notes the signals instead of raising them just anywhere; in the main thread only.

    Python runs its handlers in the main thread, which may be inside TensorFlow and wait there for a batch
    that never comes. So a thread of its own sees the signals too: the first sets the flag, for whoever
    makes the batch; after a second one the process ends, whatever the main thread does.
    """
    flag = InterruptFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    raised = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if flag.is_second():
            raised.set()
            raise Interrupted(signal.Signals(number), at_once=True)
        flag.set(number)

    seen, wake = os.pipe()
    os.set_blocking(wake, False)
    watcher = threading.Thread(target=_watch, args=(seen, flag, raised), daemon=True)
    # What was ignored from the start stays so: that is what nohup asks for.
    asked = [number for number in CAUGHT if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, note) for number in asked}
    wake_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield flag
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(wake)
        watcher.join()
        os.close(seen)


def _watch(seen: int, flag: InterruptFlag, raised: threading.Event) -> None:
    """Reads the numbers of signals from a pipe until it is closed."""
    while data := os.read(seen, 1):
        if data[0] not in CAUGHT:
            continue
        if not flag.is_second():
            flag.set(data[0])
        elif not raised.wait(SECONDS_TO_RAISE):
            os._exit(128 + data[0])
