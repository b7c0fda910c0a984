"""Differences between operating systems: usable CPUs, and features that need POSIX."""

from __future__ import annotations

import os

from tfaip_like._utils.errors import UsageError

try:
    import fcntl  # noqa: F401
except ImportError:  # Windows
    IS_POSIX = False
else:
    IS_POSIX = True


def num_usable_cpus() -> int:
    """Return the number of CPUs that this process may use, by its affinity where the system has one (not macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_posix(feature: str) -> None:
    """Check that this operating system has signals and file locks.

    Args:
        feature: what needs them; begins the message.

    Raises:
        UsageError: on Windows.
    """
    if not IS_POSIX:
        raise UsageError(f"{feature} requires Linux or macOS (POSIX signals and file locks). On Windows, use WSL.")
