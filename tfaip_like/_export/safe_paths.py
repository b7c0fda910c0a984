"""Paths for TensorFlow, which treats `[`, `*`, `?` and backslashes in the path of a SavedModel as a glob pattern."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.temp_dirs import temporary_directory

_SAFE_PATH = re.compile(r"[\w./ +=,@-]*", re.ASCII)


@contextmanager
def tensorflow_safe_path(folder: Path) -> Iterator[Path]:
    """Yield a path of `folder` without special characters: itself, or a temporary link to it.

    All characters that are not known to be safe cause a link; names that are not UTF-8 are not supported by TensorFlow.
    """
    if _SAFE_PATH.fullmatch(str(folder)):
        yield folder
        return
    with temporary_directory(_safe_temporary_parent()) as directory:
        link = directory / "link"
        link.symlink_to(folder.absolute())
        yield link


def _safe_temporary_parent() -> Path | None:
    """Return a parent directory with a plain path for temporary directories; None for TMPDIR."""
    if _SAFE_PATH.fullmatch(tempfile.gettempdir()):
        return None
    for candidate in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108  (mkdtemp makes it private)
        if Path(candidate).is_dir():
            return Path(candidate)
    raise UsageError(
        f"TMPDIR={tempfile.gettempdir()}: contains characters that TensorFlow does not support; set TMPDIR to another "
        "directory"
    )
