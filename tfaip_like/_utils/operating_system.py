"""Differences between operating systems: usable CPUs and memory, and features that need POSIX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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


_CGROUPS = (
    ("", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Versions 2 and 1 of Linux' control groups: controller, directory, files of limit and usage, unused file cache."""


def get_memory_bytes() -> tuple[int, int]:
    """Return total and free memory in bytes, within the limit of a container or a cluster job."""
    import psutil  # takes 20 ms, which --help can do without

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in _iter_cgroup_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _iter_cgroup_limits() -> Iterator[tuple[int, int]]:
    """Yield the memory limit and usage of each control group of this process that has a limit."""
    with suppress(OSError, ValueError):
        entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        for controller, root, limit_file, usage_file, cache in _CGROUPS:
            for path in (Path(path) for _, controllers, path in entries if controllers == controller):
                for group in (path, *path.parents):
                    folder = Path(root, group.relative_to("/"))
                    with suppress(OSError, ValueError):  # no limit ("max"), or the group is outside of the container
                        limit = int((folder / limit_file).read_text())
                        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                        yield limit, int((folder / usage_file).read_text()) - int(stat.get(cache, 0))


def require_posix(feature: str) -> None:
    """Check that this operating system has signals and file locks.

    Args:
        feature: what needs them; begins the message.

    Raises:
        UsageError: on Windows.
    """
    if not IS_POSIX:
        raise UsageError(f"{feature} requires Linux or macOS (POSIX signals and file locks). On Windows, use WSL.")
