"""Paths for TensorFlow, which takes `[`, `*`, `?` and a backslash in the path of a SavedModel for a pattern."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like.errors import UsageError

_PLAIN = re.compile(r"[\w./ +=,@-]*", re.ASCII)


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Yield a path of `folder` without special characters: itself, or a temporary link to it.

    Everything that is not known to be harmless is linked: a directory may also have a name that is not UTF-8, which
    TensorFlow cannot take at all.
    """
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=_plain_temporary_directory()) as directory:
        link = Path(directory, "link")
        link.symlink_to(folder.absolute())
        yield link


def _plain_temporary_directory() -> str:
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108  (mkdtemp makes it private)
        if _PLAIN.fullmatch(candidate) and Path(candidate).is_dir():
            return candidate
    raise UsageError(f"TMPDIR={tempfile.gettempdir()}: contains special characters; TensorFlow needs a plain path")
