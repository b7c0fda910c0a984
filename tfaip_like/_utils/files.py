"""Atomic replacement of files and directories, and waiting for disk space."""

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
from tfaip_like._utils.locks import lock_descriptor
from tfaip_like._utils.operating_system import IS_POSIX
from tfaip_like._utils.remote_paths import require_local
from tfaip_like._utils.temp_dirs import make_locked_dir, remove_locked_dir, remove_stale_dirs, unlock_dir

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_INTERVAL_S = 2.0
REMINDER_INTERVAL_S = 60.0


_write_guards: dict[Path, Callable[[], None]] = {}


@contextmanager
def write_guard(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check`, which may raise, before every write of this module in a folder, within the block."""
    _write_guards[folder] = check
    try:
        yield
    finally:
        del _write_guards[folder]


def check_write_guards(path: Path) -> None:
    """Call the write guards of the folders that contain `path`, which raise if writing is not allowed."""
    require_local(path)
    for folder, check in list(_write_guards.items()):
        if folder == path or folder in path.parents:
            check()


PREVIOUS_SUFFIX = ".previous"
"""Suffix of a folder while it is being replaced."""
STAGING_SUFFIX = ".new-"
"""Suffix of a staging folder, which replaces an existing folder atomically; random characters follow."""
MAX_NAME_BYTES = 240
"""Maximum length of a hidden name, before random characters are appended."""
TEMPORARY_SUFFIX = ".tmp"
"""Suffix of a staging file."""


def atomic_write_text(path: Path, text: str) -> None:
    """Replace a file atomically: write a staging file, sync it to disk, rename it."""
    with atomic_file(path) as file:
        file.write(encode_text(text))


def atomic_copy(source: Path, path: Path) -> None:
    """Replace a file by a copy of another one, atomically."""
    with source.open("rb") as content, atomic_file(path) as file:
        shutil.copyfileobj(content, file)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a staging file, which replaces `path` after the block."""
    check_write_guards(path)
    with _add_filename_to_errors(path), _open_staging_file(path) as (file, staging):
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.replace(staging, path)
    fsync_directory(path.parent)


@contextmanager
def _add_filename_to_errors(path: Path) -> Iterator[None]:
    """Add a file name to OS errors without one, as the system raises when writing or closing with a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def _open_staging_file(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Open an empty staging file in the folder of `path`; an exception in the block removes it.

    Its name is fixed, so that the next writer reuses a file left by a killed process; a lock excludes other writers. If
    the file system has no locks, or the file belongs to another user, a new temporary file is used.
    """
    staging = path.with_name(_hidden_name(path, TEMPORARY_SUFFIX))
    while True:
        descriptor = None
        try:
            descriptor = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            lock_descriptor(descriptor)
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
        os.close(descriptor)  # the previous lock holder has renamed it
    with open(descriptor, "wb") as file:
        try:
            file.truncate()
            yield file, staging
        except BaseException:
            staging.unlink(missing_ok=True)
            raise


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogate that does not encode a byte of a file name and cannot be written to a file."""


def encode_text(text: str) -> bytes:
    """Encode text in UTF-8; file names in it keep their bytes."""
    return LONE_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def replace_file(path: Path, staging: Path) -> None:
    """Replace `path` by a staging file in the same folder."""
    _fsync(staging)
    check_write_guards(path)
    os.replace(staging, path)
    fsync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Create a staging folder that replaces `path` after the block; if the block raises, `path` is unchanged."""
    staging = make_staging_dir(path)
    try:
        yield staging
        replace_directory(path, staging)
    except BaseException:
        remove_locked_dir(staging)
        raise


def move_directory(path: Path, target: Path) -> None:
    """Move a folder, also to another disk; it is always complete at one of the two paths."""
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_directory(target) as staging:
            shutil.copytree(path, staging, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(path)


def copy_directory(source: Path, target: Path) -> None:
    """Copy the content of a directory into an existing one.

    `shutil.copytree` collects all errors in one without an `errno`, which hides a full disk.
    """
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            shutil.copy2(path, target / path.relative_to(source))


def make_staging_dir(path: Path) -> Path:
    """Create a staging folder for `replace_directory`; `recover_interrupted_replace` removes it after a crash."""
    check_write_guards(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_interrupted_replace(path)
    return make_locked_dir(path.parent, _hidden_name(path, STAGING_SUFFIX))


def replace_directory(path: Path, staging: Path) -> None:
    """Replace `path` by a staging folder in the same parent folder.

    No system call exchanges two folders on every platform, so between two renames the old folder is named
    `.NAME.previous`; `recover_interrupted_replace` restores it after a crash at that moment.
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
    """Restore a folder whose replacement was interrupted, and remove incomplete staging folders."""
    previous = _previous_path(path)
    if previous.exists() and not path.exists():
        os.rename(previous, path)
    shutil.rmtree(previous, ignore_errors=True)
    remove_stale_dirs(path.parent, _hidden_name(path, STAGING_SUFFIX))


def recover_interrupted_writes(parent: Path) -> None:
    """Restore or remove what a killed process left of replacements in a folder, which no process may be writing to."""
    for leftover in parent.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    for leftover in (*parent.glob(f".*{PREVIOUS_SUFFIX}"), *parent.glob(".*.new-*")):
        recover_interrupted_replace(parent / re.split(rf"{re.escape(PREVIOUS_SUFFIX)}$|\.new-", leftover.name[1:])[0])


def retry_while_disk_full(path: Path, write: Callable[[], T], check: Callable[[], None]) -> T:
    """Return the result of `write`; while the disk is full, log a warning, wait and retry.

    Args:
        path: path that is written, for the message.
        write: function that can be called again after it failed partway.
        check: function called while waiting, which raises to stop.
    """
    last_reminder = 0.0
    while True:
        try:
            return write()
        except Exception as error:
            if not is_disk_full_error(error):
                raise
            reason = error
        if time.monotonic() - last_reminder > REMINDER_INTERVAL_S:
            last_reminder = time.monotonic()
            logger.warning(
                "%s: %s. Training is paused until space is available; no data will be lost. "
                "(Ctrl-C stops it at the last complete checkpoint.)",
                path,
                "disk quota exceeded" if "quota" in str(reason) else "no space left on device",
            )
        _sleep_until_retry(check)


def check_links(path: Path) -> None:
    """Check that no part of a path is a broken link, for example because a scratch file system is not mounted.

    Raises:
        UsageError: names the link and its target.
    """
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise UsageError(
                f"{part}: broken link to {os.readlink(part)}; check that its file system is mounted and was not emptied"
            )


def is_disk_full_error(error: BaseException) -> bool:
    """Return whether an error, raised by any library, reports a full disk or an exceeded quota."""
    return "No space left" in str(error) or "Disk quota" in str(error)


def _sleep_until_retry(check: Callable[[], None]) -> None:
    end = time.monotonic() + RETRY_INTERVAL_S
    while time.monotonic() < end:
        check()
        time.sleep(0.1)


def fsync_directory(path: Path) -> None:
    """Sync a folder to disk, so that renames in it survive a power loss."""
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
    """Sync a folder tree to disk, and set the permissions of its files and folders according to the umask.

    Staging folders are private, libraries choose other modes (TensorFlow: 0755), and copied files have those of their
    original. In a shared folder all members of the group must be able to read, and with their umask replace, them.
    """
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            if not path.is_symlink():
                _apply_umask(path)
                _fsync(path)


def _apply_umask(path: Path) -> None:
    mode = path.stat().st_mode
    default = 0o777 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o666
    # Keep the setgid bit that folders inherit: files created in them belong to the group.
    new = (default & ~_read_umask()) | (mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0)
    if stat.S_IMODE(mode) != new:
        os.chmod(path, new)


def _previous_path(path: Path) -> Path:
    return path.parent / _hidden_name(path, PREVIOUS_SUFFIX)


def _hidden_name(path: Path, suffix: str) -> str:
    """Return the hidden name of a staging file or folder, hashed if it exceeds the length limit of file systems."""
    name = f".{path.name}{suffix}"
    if len(os.fsencode(name)) <= MAX_NAME_BYTES:
        return name
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{suffix}"


@functools.cache  # read once: the umask can only be read by setting it, which affects all threads
def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
