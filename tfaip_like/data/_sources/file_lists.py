"""File search by glob patterns, and list files; all of them may be URLs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_lines
from tfaip_like._utils.remote_paths import glob_urls, is_url, normalize_location, to_path


def find_files(patterns: Iterable[str], what: str, at_most: int | None = None) -> list[Path]:
    """Return the files that match paths and glob patterns.

    The files are in the order of the patterns, those of one pattern sorted by name. `~` is expanded.

    Args:
        patterns: paths or URLs, or patterns with `*`, `?`, `[a-z]` and `**`.
        what: flag that the patterns come from, for error messages.
        at_most: maximum number of files; None for all.

    Raises:
        UsageError: if a file does not exist, or a pattern matches nothing.
    """
    return [to_path(name) for name in find_paths(patterns, what)[:at_most]]


def find_paths(patterns: Iterable[str], what: str) -> list[str]:
    """Return the paths that match paths and glob patterns, without duplicates; see `find_files`.

    Raises:
        UsageError: if a file does not exist, or a pattern matches nothing.
    """
    paths: dict[str, None] = {}
    for pattern in patterns:
        paths.update(dict.fromkeys(_find_urls(pattern, what) if is_url(pattern) else _find_local(pattern, what)))
    return list(paths)


def _find_local(pattern: str, what: str) -> list[str]:
    pattern = normalize_location(pattern)
    if not glob.has_magic(pattern) or Path(pattern).exists():
        name = os.path.expanduser(pattern)
        if not os.path.exists(name):
            raise UsageError(f"{what} {pattern}: no such file (in {Path.cwd()})")
        return [name]
    names = sorted(glob.glob(_escape_existing_folders(os.path.expanduser(pattern)), recursive=True))
    if not names:
        raise UsageError(f"{what} {pattern!r}: no file matches")
    return names


def _find_urls(pattern: str, what: str) -> list[str]:
    try:
        url = normalize_location(pattern)
        if to_path(url).exists():
            return [url]
        names = glob_urls(url) if glob.has_magic(url) else []
    except UsageError as error:
        raise UsageError(f"{what} {error}") from error
    if not names:
        raise UsageError(f"{what} {pattern}: no such file, or its bucket does not exist")
    return names


def _escape_existing_folders(pattern: str) -> str:
    """Escape the leading directories of a pattern that exist literally, as in `a[1]/*.png`."""
    folder = Path(pattern).parent
    while not folder.is_dir():
        folder = folder.parent
    if not glob.has_magic(str(folder)):
        return pattern
    return os.path.join(glob.escape(str(folder)), os.path.relpath(pattern, folder))


SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN"))
"""Directories that operating systems create for copies and thumbnails."""


def is_hidden(name: str) -> bool:
    """Return whether a file or directory is hidden or created by the operating system: `._a.png`, `__MACOSX`."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def iter_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a directory, sorted, that have one of the suffixes and are not hidden."""
    for file in sorted(folder.rglob("*")):
        if file.name.lower().endswith(suffixes) and not any(map(is_hidden, file.relative_to(folder).parts)):
            yield file


def iter_list_file(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the entries of a list file with their line numbers, from 1; blank lines and `#` comments are skipped.

    Raises:
        UsageError: if the file cannot be read as text.
    """
    for number, line in read_lines(file, errors="surrogateescape"):  # file names may contain any bytes
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text
