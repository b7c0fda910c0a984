"""Temporary directories that a killed process leaves behind only until the next one starts.

A directory is locked by the process that made it for as long as that lives. The lock is the system's: it goes with the
process, whatever kills it. Who makes another directory of the same kind removes those that nobody has locked.
"""

from __future__ import annotations

import atexit
import fcntl
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

PREFIX = "tfaip_like-"

_locks: dict[Path, int] = {}
"""Descriptors that hold the locks of directories of this process."""
_of_process: dict[Path | None, tuple[int, Path]] = {}
"""The directory of a process, with its number, by where it lies; None is TMPDIR."""


def claimed_directory(parent: Path, prefix: str) -> Path:
    """Make a directory that is locked by this process, once those that nobody has locked are removed.

    `discard` removes it, `release` only unlocks it.
    """
    remove_unclaimed(parent, prefix)
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        descriptor = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # of a file system without locks: there nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between the two somebody may have taken it for a leftover.
        if path.exists():
            _locks[path] = descriptor
            return path
        os.close(descriptor)


@contextmanager
def claimed(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory as `claimed_directory` does, for the length of the block."""
    path = claimed_directory(parent, prefix)
    try:
        yield path
    finally:
        discard(path)


def release(path: Path) -> None:
    """Unlock a directory that this process has claimed."""
    if (descriptor := _locks.pop(path, None)) is not None:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a directory that this process has claimed."""
    shutil.rmtree(path, ignore_errors=True)
    release(path)


def remove_unclaimed(parent: Path, prefix: str) -> None:
    """Remove directories of a kind that belong to this user and to no living process."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        if path not in _locks:
            _remove_if_unclaimed(path)


def _remove_if_unclaimed(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def process_directory(parent: Path | None = None) -> Path:
    """Return the temporary directory of this process, which is made on first use and removed at its end.

    Args:
        parent: where it lies; by default in TMPDIR.
    """
    pid, path = _of_process.get(parent, (0, Path()))
    if pid != os.getpid() or not path.is_dir():
        path = claimed_directory(Path(tempfile.gettempdir()) if parent is None else parent, PREFIX)
        _of_process[parent] = os.getpid(), path
        atexit.register(_remove_at_end, os.getpid(), path)
    return path


def _remove_at_end(pid: int, path: Path) -> None:
    if os.getpid() == pid:  # not in a process that was forked from it
        discard(path)


@contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """Make a directory for the length of the block, in that of this process.

    Args:
        parent: where that lies; by default in TMPDIR.
    """
    with tempfile.TemporaryDirectory(dir=process_directory(parent)) as directory:
        yield Path(directory)


def keep_autograph_files() -> None:
    """Let TensorFlow write the code that AutoGraph generates into the directory of this process.

    It leaves them in TMPDIR if the process is killed (`__autograph_generated_file*.py`), and has no setting for it.
    """
    loader = sys.modules.get("tensorflow.python.autograph.pyct.loader")
    if loader is not None and hasattr(loader, "tempfile"):
        named = partial(tempfile.NamedTemporaryFile, dir=process_directory())
        vars(loader)["tempfile"] = SimpleNamespace(NamedTemporaryFile=named)
