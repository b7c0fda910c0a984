"""Finding files by patterns, and lists of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_lines


def find_files(patterns: Iterable[str], what: str, at_most: int | None = None) -> list[Path]:
    """The files that paths and patterns mean, as `find_paths`; at most so many of them."""
    return [Path(name) for name in find_paths(patterns, what)[:at_most]]


def find_paths(patterns: Iterable[str], what: str) -> list[str]:
    """The files that paths and patterns (`*`, `?`, `[a-z]`, `**`) mean, in their order; those of a pattern by name.

    Args:
        what: a flag, to begin a message with.

    Raises:
        UsageError: for a file that is not there, or a pattern that means none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if glob.has_magic(pattern) and not Path(pattern).exists():
            names = sorted(glob.glob(_escape_existing_folders(os.path.expanduser(pattern)), recursive=True))
            if not names:
                raise UsageError(f"{what} {pattern!r}: no file matches")
        else:
            names = [os.path.expanduser(pattern)]
            if not os.path.exists(names[0]):
                raise UsageError(f"{what} {pattern}: no such file (in {Path.cwd()})")
        found.update(dict.fromkeys(names))
    return list(found)


def _escape_existing_folders(pattern: str) -> str:
    """Return a pattern whose leading directories mean what they are called, where they exist: `a[1]/*.png`."""
    folder = Path(pattern).parent
    while not folder.is_dir():
        folder = folder.parent
    if not glob.has_magic(str(folder)):
        return pattern
    return os.path.join(glob.escape(str(folder)), os.path.relpath(pattern, folder))


SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN"))
"""Folders with copies and thumbnails that nobody has put there."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or left by the operating system: `._a.png`, `.git`, `__MACOSX`."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def iter_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files with one of some endings in a folder, at any depth and in order; without hidden ones."""
    for file in sorted(folder.rglob("*")):
        if file.name.lower().endswith(suffixes) and not any(map(is_hidden, file.relative_to(folder).parts)):
            yield file


def iter_list_file(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list file with their numbers, from 1; without empty ones and those that begin with `#`.

    Raises:
        UsageError: when it cannot be read as text.
    """
    for number, line in read_lines(file, errors="surrogateescape"):  # names of files may be of any bytes
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text
