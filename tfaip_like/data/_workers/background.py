"""User code in a thread of its own, so that whoever waits for it can be stopped."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

POLL_INTERVAL_S = 0.2

_busy_threads: set[threading.Thread] = set()


def is_user_code_running() -> bool:
    """Return whether a thread that nobody waits for is still inside user code."""
    return bool(_busy_threads)


def call_in_thread(function: Callable[[], T], check: Callable[[], None]) -> T:
    """Return what `function` returns; call `check`, which may raise, while waiting."""
    return next(iterate_in_thread((function() for _ in range(1)), check))


def iterate_in_thread(items: Iterator[T], check: Callable[[], None]) -> Iterator[T]:
    """Yield the items, each made in one daemon thread when it is asked for; call `check` before and while waiting.

    A sample may take minutes. When `check` raises, nobody waits for it any longer: not the graph of TensorFlow, whose
    iterator would otherwise keep the process alive, and not the main thread, which saves the state and ends.
    """
    requests: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[tuple[Any, bool, BaseException | None]] = SimpleQueue()
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(_run_requests, items, requests, results), name="data", daemon=True
    )
    thread.start()
    del items  # the thread alone holds it, and lets go of it when it ends
    try:
        while True:
            check()
            requests.put(True)
            item, is_end, error = _wait_for_result(results, check)
            if error is not None:
                raise error
            if is_end:
                return
            yield item
            del item
    finally:
        error = None
        requests.put(False)


def _wait_for_result(results: SimpleQueue[T], check: Callable[[], None]) -> T:
    while True:
        try:
            return results.get(timeout=POLL_INTERVAL_S)
        except Empty:
            check()


def _run_requests(items: Iterator[Any], requests: SimpleQueue[bool], results: SimpleQueue[Any]) -> None:
    thread = threading.current_thread()
    while requests.get():
        _busy_threads.add(thread)
        result: tuple[Any, bool, BaseException | None]
        try:
            result = (next(items), False, None)
        except StopIteration:
            result = (None, True, None)
        except BaseException as error:
            result = (None, False, error)
        finally:
            _busy_threads.discard(thread)
        results.put(result)
        del result
