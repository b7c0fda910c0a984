"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.operating_system import IS_POSIX, lock_file
from tfaip_like._utils.temp_dirs import make_locked_dir, remove_locked_dir, remove_stale_dirs, unlock_dir

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_INTERVAL_S = 2.0
REMINDER_INTERVAL_S = 60.0


_write_guards: dict[Path, Callable[[], None]] = {}


@contextmanager
def write_guard(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check`, which may raise, before this module writes in a folder, for the length of the block."""
    _write_guards[folder] = check
    try:
        yield
    finally:
        del _write_guards[folder]


def check_write_guards(path: Path) -> None:
    """Raise if a folder that `path` is in must not be written to any more."""
    for folder, check in list(_write_guards.items()):
        if folder == path or folder in path.parents:
            check()


PREVIOUS_SUFFIX = ".previous"
"""How the name of a folder ends while another one takes its place."""
STAGING_SUFFIX = ".new-"
"""Suffix of a staging folder, which replaces the folder before it in one step."""
MAX_NAME_BYTES = 240
"""Of a hidden name, to which some characters may be added."""
TEMPORARY_SUFFIX = ".tmp"
"""How the names of files end that are written aside."""


def atomic_write_text(path: Path, text: str) -> None:
    """Replace a file: written aside, synced to disk, renamed."""
    check_write_guards(path)
    with _add_filename_to_errors(path), _open_staging_file(path) as (file, staging):
        try:
            file.write(encode_text(text))
            file.flush()
            os.fsync(file.fileno())
            os.replace(staging, path)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
    fsync_directory(path.parent)


@contextmanager
def _add_filename_to_errors(path: Path) -> Iterator[None]:
    """Name a file in errors that name none: the system does not where the disk is full, at writing and at closing."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def _open_staging_file(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Open an empty file in the folder of another one.

    Its name is always the same, so that the next writer takes over what a killed one has left; a lock keeps others
    out meanwhile. Where a file system has no locks, or another member of a group has left it, it is a new one.
    """
    staging = path.with_name(_hidden_name(path, TEMPORARY_SUFFIX))
    while True:
        descriptor = None
        try:
            descriptor = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            lock_file(descriptor)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            elif not isinstance(error, PermissionError) or not os.access(path.parent, os.W_OK):
                raise
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{staging.name}.", suffix=TEMPORARY_SUFFIX)
            os.fchmod(descriptor, 0o666 & ~_read_umask())
            staging = Path(name)
            break
        if _is_same_file(descriptor, staging):
            break
        os.close(descriptor)  # who had locked it has put it into its place
    with open(descriptor, "wb") as file:
        file.truncate()
        yield file, staging


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half of a character that stands for no byte of a file name: it can be written nowhere."""


def encode_text(text: str) -> bytes:
    """Return a text in UTF-8; names of files in it keep their bytes."""
    return LONE_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def replace_file(path: Path, staging: Path) -> None:
    """Puts a file that was written beside `path` into its place."""
    _fsync(staging)
    check_write_guards(path)
    os.replace(staging, path)
    fsync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A folder to fill; when the block ends it replaces `path`, when it raises `path` stays as it was."""
    staging = make_staging_dir(path)
    try:
        yield staging
        replace_directory(path, staging)
    except BaseException:
        remove_locked_dir(staging)
        raise


def move_directory(path: Path, target: Path) -> None:
    """Move a folder, also to another disk; it is whole at one place or the other."""
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_directory(target) as staging:
            shutil.copytree(path, staging, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(path)


def make_staging_dir(path: Path) -> Path:
    """Make a new folder with which `replace_directory` can replace `path`; `recover_interrupted_replace` removes it."""
    check_write_guards(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_interrupted_replace(path)
    return make_locked_dir(path.parent, _hidden_name(path, STAGING_SUFFIX))


def replace_directory(path: Path, staging: Path) -> None:
    """Puts a folder that was filled beside `path` into its place.

    There is no call that exchanges two folders on every system, so for a moment between two renames
    the old one is called `.NAME.previous`; `recover_interrupted_replace` brings it back after a crash just then.
    """
    _fsync_tree(staging)
    check_write_guards(path)
    previous = _previous_path(path)
    if path.exists():
        os.rename(path, previous)
    os.rename(staging, path)
    unlock_dir(staging)
    fsync_directory(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover_interrupted_replace(path: Path) -> None:
    """Puts back a folder whose replacement was interrupted, and removes what was half written."""
    previous = _previous_path(path)
    if previous.exists() and not path.exists():
        os.rename(previous, path)
    shutil.rmtree(previous, ignore_errors=True)
    remove_stale_dirs(path.parent, _hidden_name(path, STAGING_SUFFIX))


def recover_interrupted_writes(parent: Path) -> None:
    """Put back or remove what a killed process has left of files and folders that it was replacing.

    Nobody else may be writing there.
    """
    for leftover in parent.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    for leftover in (*parent.glob(f".*{PREVIOUS_SUFFIX}"), *parent.glob(".*.new-*")):
        recover_interrupted_replace(parent / re.split(rf"{re.escape(PREVIOUS_SUFFIX)}$|\.new-", leftover.name[1:])[0])


@contextmanager
def file_lock(path: Path, wait: bool = True) -> Iterator[int]:
    """Keep other processes out of such a block for the same file, which is made if it is not there.

    The lock is the system's: it never outlives its process. Where a file system has none, nobody is kept out.

    Args:
        wait: for others; else `BlockingIOError` is raised where there is one.

    Yields:
        The descriptor that holds the lock: a process that is given it keeps the lock until it has ended too.
    """
    with path.open("a", encoding="utf-8") as file:
        try:
            lock_file(file.fileno(), wait=wait)
        except BlockingIOError:
            raise
        except OSError as error:
            logger.debug("%s cannot be locked: %s", path, error)
        yield file.fileno()


def is_locked(path: Path) -> bool:
    """Return whether any process holds a lock on a file."""
    try:
        with path.open("r", encoding="utf-8") as file:
            lock_file(file.fileno(), shared=True, wait=False)
    except BlockingIOError:
        return True
    except OSError:  # it is not there, or the file system has no locks
        return False
    return False


def retry_while_disk_full(path: Path, write: Callable[[], T], check: Callable[[], None]) -> T:
    """What `write` returns; when the disk of `path` is full it waits, says so, and writes again.

    Args:
        write: can be called again after it has failed in the middle.
        check: called while waiting; raises to stop.
    """
    said = 0.0
    while True:
        try:
            return write()
        except Exception as error:
            if not is_disk_full_error(error):
                raise
            reason = error
        if time.monotonic() - said > REMINDER_INTERVAL_S:
            said = time.monotonic()
            logger.warning(
                "%s: %s. The training waits until there is room and then goes on; nothing is lost. "
                "(Ctrl-C stops it at the last complete checkpoint.)",
                path,
                "disk quota exceeded" if "quota" in str(reason) else "no space left on this disk",
            )
        _sleep_until_retry(check)


def check_links(path: Path) -> None:
    """Check that a path does not lead through a link to nowhere, as where a scratch file system is not mounted.

    Raises:
        UsageError: names the link and its target.
    """
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise UsageError(
                f"{part}: is a link to {os.readlink(part)}, which is not there; is its file system mounted, or was it "
                "emptied?"
            )


def is_disk_full_error(error: BaseException) -> bool:
    """Return whether a disk was full, whatever library found out."""
    return "No space left" in str(error) or "Disk quota" in str(error)


def _sleep_until_retry(check: Callable[[], None]) -> None:
    end = time.monotonic() + RETRY_INTERVAL_S
    while time.monotonic() < end:
        check()
        time.sleep(0.1)


def fsync_directory(path: Path) -> None:
    """Makes renames in a folder survive a loss of power."""
    _fsync(path)


def _fsync(path: Path) -> None:
    if not IS_POSIX and path.is_dir():  # Windows cannot open directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(folder: Path) -> None:
    """Sync a folder to disk, with the permissions that its user wants for what is new in it.

    It was private until now, libraries choose modes of their own (TensorFlow: 0755), and a copied file has those of its
    original. In a folder of a group all members must be able to read it, and to replace it where the umask says so.
    """
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            if not path.is_symlink():
                _apply_umask(path)
                _fsync(path)


def _apply_umask(path: Path) -> None:
    mode = path.stat().st_mode
    wanted = 0o777 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o666
    # A folder made below one with the setgid bit has it too: what is made in it belongs to the group.
    new = (wanted & ~_read_umask()) | (mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0)
    if stat.S_IMODE(mode) != new:
        os.chmod(path, new)


def _previous_path(path: Path) -> Path:
    return path.parent / _hidden_name(path, PREVIOUS_SUFFIX)


def _hidden_name(path: Path, suffix: str) -> str:
    """Return a hidden name for what belongs to a file or folder; a long one is shortened, as systems limit names."""
    name = f".{path.name}{suffix}"
    if len(os.fsencode(name)) <= MAX_NAME_BYTES:
        return name
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{suffix}"


@functools.cache  # asked for once: setting it, which is the only way to ask, concerns all threads
def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
