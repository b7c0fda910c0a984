"""User code in a daemon thread, so that the caller can stop waiting for it."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

POLL_INTERVAL_S = 0.2

_busy_threads: set[threading.Thread] = set()


def is_user_code_running() -> bool:
    """Return whether an abandoned thread is still running user code."""
    return bool(_busy_threads)


@contextmanager
def track_user_code() -> Iterator[None]:
    """Count this thread as running user code."""
    thread = threading.current_thread()
    _busy_threads.add(thread)
    try:
        yield
    finally:
        _busy_threads.discard(thread)


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
    while requests.get():
        result: tuple[Any, bool, BaseException | None]
        try:
            with track_user_code():
                result = (next(items), False, None)
        except StopIteration:
            result = (None, True, None)
        except BaseException as error:
            result = (None, False, error)
        results.put(result)
        del result


class Prefetcher(Iterator[T]):
    """Iterator whose items are computed ahead in a daemon thread.

    Args:
        items: the items.
        depth: maximum number of items that wait to be taken.
        check: called while waiting for an item; may raise.
    """

    def __init__(self, items: Iterator[T], depth: int, check: Callable[[], None]):
        self._check = check
        self._results: SimpleQueue[tuple[Any, bool, BaseException | None]] = SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._is_stopped = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run, items), name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        item: T
        item, is_end, error = _wait_for_result(self._results, self._check)
        if is_end:
            self._results.put((None, True, error))  # for further calls
            raise error or StopIteration
        self._free.release()
        return item

    def stop(self) -> None:
        """Stop computing items after the one in progress."""
        self._is_stopped = True
        self._free.release()

    def close(self) -> None:
        """Stop, and wait for the item in progress; `check` may end the waiting."""
        self.stop()
        while self._thread.is_alive():
            self._check()
            self._thread.join(POLL_INTERVAL_S)

    def _run(self, items: Iterator[T]) -> None:
        error: BaseException | None = None
        try:
            while self._free.acquire() and not self._is_stopped:
                self._results.put((next(items), False, None))
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        self._results.put((None, True, error))
