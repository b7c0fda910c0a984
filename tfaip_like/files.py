"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like.errors import TrainingError


def write_text(path: Path, text: str) -> None:
    """Replaces a file: written aside, synced to disk, renamed."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.chmod(file.name, 0o666 & ~_umask())
    os.replace(file.name, path)
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; when the block ends it replaces `path`, when it raises `path` stays as it was."""
    aside = folder_beside(path)
    try:
        yield aside
        replace_folder(path, aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def folder_beside(path: Path) -> Path:
    """A new folder to fill, with which `replace_folder` can replace `path`; `recover_folder` removes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new-"))


def replace_folder(path: Path, aside: Path) -> None:
    """Puts a folder that was filled beside `path` into its place.

    There is no call that exchanges two folders on every system, so for a moment between two renames
    the old one is called `.NAME.previous`; `recover_folder` brings it back after a crash just then.
    """
    os.chmod(aside, 0o777 & ~_umask())
    _sync_below(aside)
    previous = _previous(path)
    if path.exists():
        os.rename(path, previous)
    os.rename(aside, path)
    sync_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Puts back a folder whose replacement was interrupted, and removes what was half written."""
    previous = _previous(path)
    if previous.exists() and not path.exists():
        os.rename(previous, path)
    for leftover in (previous, *path.parent.glob(f".{path.name}.new-*")):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Raises `TrainingError` when the disk is full, whatever library found out first."""
    try:
        yield
    except Exception as error:
        if "No space left" not in str(error) and "Disk quota" not in str(error):
            raise
        raise TrainingError(
            f"{path}: no space left on this disk. What was saved before is whole; make room and train again."
        ) from error


def sync_folder(path: Path) -> None:
    """Makes renames in a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_below(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def _previous(path: Path) -> Path:
    return path.parent / f".{path.name}.previous"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
