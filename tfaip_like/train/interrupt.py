"""Ctrl-C: the first one ends the training between two steps, a second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tfaip_like.errors import Interrupted


class InterruptFlag:
    """Whether somebody pressed Ctrl-C."""

    def __init__(self) -> None:
        self.is_set = False

    def check(self) -> None:
        """Raises `Interrupted` if so; called between steps, where everything is in order."""
        if self.is_set:
            raise Interrupted(signal.SIGINT)


@contextmanager
def catch_interrupts() -> Iterator[InterruptFlag]:
    """Notes Ctrl-C instead of raising it just anywhere; in the main thread only."""
    flag = InterruptFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, frame: FrameType | None) -> Any:
        flag.is_set = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
