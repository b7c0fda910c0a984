"""Threads that nobody waits for any more, for example because a server does not answer them."""

from __future__ import annotations

import threading

_threads: list[threading.Thread] = []


def abandon(thread: threading.Thread) -> None:
    """Record that nobody waits for a daemon thread any more."""
    _threads.append(thread)


def has_abandoned_threads() -> bool:
    """Return whether an abandoned thread is still running."""
    return any(thread.is_alive() for thread in _threads)
