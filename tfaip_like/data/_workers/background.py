"""User code in a daemon thread, so that the caller can stop waiting for it."""

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
    """Return whether an abandoned thread is still running user code."""
    return bool(_busy_threads)


def call_in_thread(function: Callable[[], T], check: Callable[[], None]) -> T:
    """Run `function` in a thread and return its result; `check` is called while waiting and may raise."""
    return next(iterate_in_thread((function() for _ in range(1)), check))


def iterate_in_thread(items: Iterator[T], check: Callable[[], None]) -> Iterator[T]:
    """Yield the items, each computed on request in one daemon thread; call `check` before and while waiting.

    A sample may take minutes. When `check` raises, neither TensorFlow's graph, whose iterator would keep the process
    alive, nor the main thread, which saves the state and exits, waits for it any longer.
    """
    requests: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[tuple[Any, bool, BaseException | None]] = SimpleQueue()
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(_run_requests, items, requests, results), name="data", daemon=True
    )
    thread.start()
    del items  # only the thread holds a reference, and releases it when it ends
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
