"""Temporary directories that a killed process leaves behind only until the next one starts.

A directory is locked by the process that made it for as long as that lives. The lock is the system's: it goes with the
process, whatever kills it. Who makes another directory of the same kind removes those that nobody has locked.
"""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from tfaip_like._utils.operating_system import IS_POSIX, lock_file

TEMP_DIR_PREFIX = "tfaip_like-"

_locks: dict[Path, int] = {}
"""Descriptors that hold the locks of directories of this process."""
_process_dirs: dict[Path | None, tuple[int, Path]] = {}
"""The directory of a process, with its number, by where it lies; None is TMPDIR."""


def make_locked_dir(parent: Path, prefix: str) -> Path:
    """Make a directory that is locked by this process, once those that nobody has locked are removed.

    `remove_locked_dir` removes it, `unlock_dir` only unlocks it.
    """
    if not IS_POSIX:  # directories cannot be opened, so neither locked
        return Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    remove_stale_dirs(parent, prefix)
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        descriptor = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # of a file system without locks: there nothing is removed either
            lock_file(descriptor)
        # Between the two somebody may have taken it for a leftover.
        if path.exists():
            _locks[path] = descriptor
            return path
        os.close(descriptor)


@contextmanager
def locked_dir(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory as `make_locked_dir` does, for the length of the block."""
    path = make_locked_dir(parent, prefix)
    try:
        yield path
    finally:
        remove_locked_dir(path)


def unlock_dir(path: Path) -> None:
    """Unlock a directory that this process has claimed."""
    if (descriptor := _locks.pop(path, None)) is not None:
        os.close(descriptor)


def remove_locked_dir(path: Path) -> None:
    """Remove a directory that this process has claimed."""
    shutil.rmtree(path, ignore_errors=True)
    unlock_dir(path)


def remove_stale_dirs(parent: Path, prefix: str) -> None:
    """Remove directories of a kind that belong to this user and to no living process."""
    if not IS_POSIX:
        return
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        if path not in _locks:
            _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                lock_file(descriptor, wait=False)
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def process_temp_dir(parent: Path | None = None) -> Path:
    """Return the temporary directory of this process, which is made on first use and removed at its end.

    Args:
        parent: where it lies; by default in TMPDIR.
    """
    pid, path = _process_dirs.get(parent, (0, Path()))
    if pid != os.getpid() or not path.is_dir():
        path = make_locked_dir(Path(tempfile.gettempdir()) if parent is None else parent, TEMP_DIR_PREFIX)
        _process_dirs[parent] = os.getpid(), path
        atexit.register(_remove_at_exit, os.getpid(), path)
    return path


def _remove_at_exit(pid: int, path: Path) -> None:
    if os.getpid() == pid:  # not in a process that was forked from it
        remove_locked_dir(path)


@contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """Make a directory for the length of the block, in that of this process.

    Args:
        parent: where that lies; by default in TMPDIR.
    """
    with tempfile.TemporaryDirectory(dir=process_temp_dir(parent)) as directory:
        yield Path(directory)


def redirect_autograph_files() -> None:
    """Let TensorFlow write the code that AutoGraph generates into the directory of this process.

    It leaves them in TMPDIR if the process is killed (`__autograph_generated_file*.py`), and has no setting for it.
    """
    loader = sys.modules.get("tensorflow.python.autograph.pyct.loader")
    if loader is not None and hasattr(loader, "tempfile"):
        named = partial(tempfile.NamedTemporaryFile, dir=process_temp_dir())
        vars(loader)["tempfile"] = SimpleNamespace(NamedTemporaryFile=named)
