"""Writing of exports and checkpoints in a thread while the training continues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tfaip_like._keras_ext.snapshots import Buffers
from tfaip_like._utils.files import is_disk_full_error, retry_while_disk_full

Write: TypeAlias = Callable[[], None]


class BackgroundWriter:
    """Thread that runs writes one after another, in the order in which they were submitted.

    What is on disk after a crash therefore includes everything that was submitted before it. An error is
    raised by the next call; the writes after the failed one wait.

    Args:
        path: directory that is written to, for messages.
        check_interrupt: called while waiting for disk space; raises to stop.
    """

    def __init__(self, path: Path, check_interrupt: Callable[[], None]):
        self.buffers = Buffers()
        """Memory of the copies of variables to write; released when they are written."""
        self._path = path
        self._check_interrupt = check_interrupt
        self._pending: deque[Write] = deque()
        """The write in progress, and those after it."""
        self._changed = threading.Condition()
        self.is_running = False
        """Whether the thread is running."""
        self._failure: Exception | None = None
        self.has_failed = False
        """Whether an error of a write has been raised."""

    def submit(self, write: Write) -> None:
        """Run a write after those submitted before.

        Args:
            write: function that can be called again after it failed partway.

        Raises:
            OSError: if an earlier write failed for any reason other than a full disk; so may any exception of it.
        """
        self.raise_pending_error()
        with self._changed:
            self._pending.append(write)
        self._start()

    def wait(self, max_pending: int = 0) -> None:
        """Wait until at most this number of writes is not complete, including for disk space.

        Raises:
            OSError: if a write failed for any reason other than a full disk; so may any exception of it.
        """
        while True:
            self.raise_pending_error()
            self._start()  # those after a write that failed
            with self._changed:
                if self._failure is None:
                    if len(self._pending) <= max_pending:
                        return
                    self._changed.wait()

    def raise_pending_error(self) -> None:
        """Raise the error of a failed write; after a full disk, retry until there is space instead.

        Raises:
            OSError: if a write failed for any reason other than a full disk; so may any exception of it.
        """
        with self._changed:
            if self._failure is None:
                return
            error, self._failure = self._failure, None
            write = self._pending.popleft()
        if not is_disk_full_error(error):
            self.has_failed = True
            raise error
        retry_while_disk_full(self._path, write, self._check_interrupt)
        self._start()

    def _start(self) -> None:
        with self._changed:
            if self.is_running or not self._pending or self._failure is not None:
                return
            self.is_running = True
        # A daemon, because an immediate stop does not wait for it. All other exits do.
        threading.Thread(target=self._run, name="checkpoint", daemon=True).start()

    def _run(self) -> None:
        is_running = True
        while is_running:
            error = self._try(self._pending[0])
            with self._changed:
                if error is None:
                    self._pending.popleft()
                self._failure = error
                self.is_running = is_running = error is None and bool(self._pending)
                self._changed.notify_all()

    @staticmethod
    def _try(write: Write) -> Exception | None:
        try:
            write()
        except Exception as error:
            return error
        return None
