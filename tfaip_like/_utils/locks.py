"""Locks on files and directories, which the system releases when their process ends, even by SIGKILL.

`file_lock` is a lock of filelock, for lock files that one process holds. `lock_descriptor` calls the system, for what
filelock does not have: locks on directories, on files that are then renamed, and locks that a child process inherits;
and shared locks, which ask whether a lock is held without being in the way of others who ask.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like._utils.operating_system import IS_POSIX

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems without locks."""


@contextmanager
def file_lock(path: Path, timeout_s: float = -1) -> Iterator[None]:
    """Hold an exclusive lock on a file within the block; the file is created if necessary.

    On a network file system without locks, filelock falls back to a marker file, or the lock has no effect.

    Args:
        path: path of the lock file.
        timeout_s: seconds to wait for other holders; negative waits without limit.

    Raises:
        BlockingIOError: if another process still holds the lock after the timeout.
    """
    from filelock import FileLock, Timeout  # few commands lock a file

    lock = FileLock(path, timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.debug("cannot lock %s: %s", path, error)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def inheritable_lock(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on a file within the block, and yield the descriptor that holds it.

    A child process that inherits the descriptor keeps the lock until it exits. On file systems without locks it has no
    effect. POSIX only.

    Args:
        path: path of the lock file; created if necessary.
    """
    with path.open("a", encoding="utf-8") as file:
        try:
            lock_descriptor(file.fileno())
        except OSError as error:
            logger.debug("cannot lock %s: %s", path, error)
        yield file.fileno()


def is_locked(path: Path) -> bool:
    """Return whether any process holds a lock on a file; False for a missing file."""
    try:
        with path.open("r", encoding="utf-8") as file:
            lock_descriptor(file.fileno(), shared=True, wait=False)
    except BlockingIOError:
        return True
    except OSError:  # missing file, or a file system without locks
        return False
    return False


def lock_descriptor(descriptor: int, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file or directory until all of its descriptors are closed.

    Args:
        descriptor: of the open file; processes that inherit it hold the lock too.
        shared: whether others may hold a shared lock at the same time.
        wait: whether to wait for the lock.

    Raises:
        BlockingIOError: if another process holds the lock, and `wait` is False.
        OSError: if the file system or the operating system has no locks.
    """
    if not IS_POSIX:
        raise OSError(errno.ENOSYS, "this operating system has no advisory file locks")
    import fcntl

    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
