"""Ctrl-C and SIGTERM: the first one ends the training between two steps, a second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tfaip_like.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class InterruptFlag:
    """Whether, and by which signal, the training was asked to stop."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None

    def check(self) -> None:
        """Raises `Interrupted` if so; called between steps, where everything is in order."""
        if self.number is not None:
            raise Interrupted(self.number)


@contextmanager
def catch_interrupts() -> Iterator[InterruptFlag]:
    """Notes the signals instead of raising them just anywhere; in the main thread only."""
    flag = InterruptFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, frame: FrameType | None) -> None:
        if flag.number is not None:
            raise Interrupted(signal.Signals(number))
        flag.number = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in CAUGHT}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
