"""Ctrl-C and SIGTERM: the first one ends the training between two steps, a second one at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tfaip_like.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM)
SECONDS_TO_RAISE = 1.0
"""A second signal raises in the main thread; if that does not get there, the process ends."""


class InterruptFlag:
    """Whether, and by which signal, the training was asked to stop."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None

    def check(self) -> None:
        """Raises `Interrupted` if so; called between steps, where everything is in order, and by those who wait."""
        if self.number is not None:
            raise Interrupted(self.number)


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

    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        flag.number = flag.number or signal.Signals(number)
        if len(noted) > 1:
            raise Interrupted(signal.Signals(number))

    seen, wake = os.pipe()
    os.set_blocking(wake, False)
    watcher = threading.Thread(target=_watch, args=(seen, flag, noted), daemon=True)
    handlers = {number: signal.signal(number, note) for number in CAUGHT}
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


def _watch(seen: int, flag: InterruptFlag, noted: list[int]) -> None:
    """Reads the numbers of signals from a pipe until it is closed; `noted` are those that the main thread knows."""
    count = 0
    while data := os.read(seen, 1):
        if data[0] not in CAUGHT:
            continue
        count += 1
        flag.number = flag.number or signal.Signals(data[0])
        if count > 1:
            time.sleep(SECONDS_TO_RAISE)
            if len(noted) < count:
                os._exit(128 + data[0])
