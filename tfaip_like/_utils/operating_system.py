"""Differences between operating systems: usable CPUs, file locks, and features that need POSIX."""

from __future__ import annotations

import errno
import os

from tfaip_like._utils.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    IS_POSIX = False
else:
    IS_POSIX = True


def num_usable_cpus() -> int:
    """Return the number of CPUs that this process may use, by its affinity where the system has one (not macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lock_file(descriptor: int, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file or directory until it is closed, or its process ends.

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
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def require_posix(feature: str) -> None:
    """Check that this operating system has signals and file locks.

    Args:
        feature: what needs them; begins the message.

    Raises:
        UsageError: on Windows.
    """
    if not IS_POSIX:
        raise UsageError(f"{feature} requires Linux or macOS (POSIX signals and file locks). On Windows, use WSL.")
