"""Upload of a run to a URL while it trains (`--trainer.mirror_to`)."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like._runs.mirror import Manifest, MirroredFile, RunMirror, checkpoint_order, hash_file, run_identity
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._utils.errors import Interrupted, UsageError, format_bytes, short_error_message
from tfaip_like._utils.temp_dirs import make_locked_dir, remove_locked_dir, remove_stale_dirs

logger = logging.getLogger(__name__)

STAGING_PREFIX = ".mirror-"
IMMUTABLE = ("checkpoints", "best", "export", "resources", "used_data")
"""Directories of a run whose files are replaced, never changed in place."""
RETRY_DELAYS_S = (2.0, 10.0)
"""Waiting times before a failed upload is repeated; after them, the next checkpoint is uploaded."""


class RunUploader:
    """Thread that uploads snapshots of a run directory, always the newest one.

    A snapshot consists of hard links of the files that are never changed in place (checkpoints, exports) and of copies
    of the others, so the training continues, and may remove checkpoints, during the upload.

    Args:
        output_dir: run directory.
        mirror: where to upload to.
    """

    def __init__(self, output_dir: OutputDir, mirror: RunMirror):
        self.output_dir = output_dir
        self.mirror = mirror
        self._changed = threading.Condition()
        self._pending: Path | None = None
        """Snapshot to upload next."""
        self._is_uploading = False
        self._is_closing = False
        self._hashes: dict[tuple[int, int, int, int], MirroredFile] = {}
        """Contents of unchanged files, by device, inode, size and modification time."""
        remove_stale_dirs(output_dir.path, STAGING_PREFIX)
        # A daemon, because an immediate stop does not wait for it. All other exits do.
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def submit(self) -> None:
        """Upload the current state; call this while nothing else writes checkpoints and exports. Never raises."""
        try:
            snapshot = take_snapshot(self.output_dir)
        except OSError as error:
            logger.warning("--trainer.mirror_to %s: cannot copy the run: %s", self.mirror.url, error)
            return
        with self._changed:
            replaced, self._pending = self._pending, snapshot
            self._changed.notify_all()
        if replaced is not None:  # its upload has not begun
            remove_locked_dir(replaced)

    def close(self) -> None:
        """Wait until the last snapshot is uploaded, or could not be."""
        with self._changed:
            is_busy = self._is_uploading or self._pending is not None
        if is_busy:
            logger.info("waiting for the upload to %s", self.mirror.url)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_uploading = False
                self._changed.wait_for(lambda: self._pending is not None or self._is_closing)
                if self._pending is None:
                    return
                snapshot, self._pending = self._pending, None
                self._is_uploading = True
            try:
                self._upload_with_retries(snapshot)
            finally:
                remove_locked_dir(snapshot)

    def _upload_with_retries(self, snapshot: Path) -> None:
        for delay in (*RETRY_DELAYS_S, 0.0):
            try:
                self._upload(snapshot)
            except Exception as error:  # each package of fsspec has its own exceptions
                reason = short_error_message(error)
                logger.debug("%s: upload failed", self.mirror.url, exc_info=True)
            else:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None, timeout=delay)
                if self._pending is not None:  # a newer one
                    break
        what = "the copy there is older than the run" if self._is_closing else "the next checkpoint is uploaded again"
        logger.warning("--trainer.mirror_to %s: upload failed (%s); %s", self.mirror.url, reason, what)

    def _upload(self, snapshot: Path) -> None:
        start = time.monotonic()
        paths = {path.relative_to(snapshot).as_posix(): path for path in _iter_files(snapshot)}
        checkpoints = [name.split("/")[1] for name in paths if name.startswith("checkpoints/")]
        manifest = Manifest(
            run=run_identity(OutputDir(snapshot)),
            checkpoint=max(checkpoints, key=checkpoint_order, default=""),
            files={name: self._hash(path) for name, path in paths.items()},
        )
        self._hashes = {_content_key(path): manifest.files[name] for name, path in paths.items()}
        num_bytes = self.mirror.upload(manifest, paths.__getitem__)
        logger.info(
            "uploaded %s to %s (%s in %.1f s)",
            manifest.checkpoint or "the run",
            self.mirror.url,
            format_bytes(num_bytes),
            time.monotonic() - start,
        )

    def _hash(self, path: Path) -> MirroredFile:
        return self._hashes.get(_content_key(path)) or hash_file(path)


def _content_key(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def take_snapshot(output_dir: OutputDir) -> Path:
    """Return a directory with the files of a run as they are now: hard links where they cannot change, else copies.

    Raises:
        OSError: if the disk is full, or a file cannot be read.
    """
    snapshot = make_locked_dir(output_dir.path, STAGING_PREFIX)
    try:
        for path in _iter_files(output_dir.path):
            name = path.relative_to(output_dir.path)
            target = snapshot / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if len(name.parts) > 1 and name.parts[0] in IMMUTABLE:
                _link_or_copy(path, target)
            else:
                shutil.copyfile(path, target)
    except BaseException:
        remove_locked_dir(snapshot)
        raise
    return snapshot


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, as with --trainer.checkpoint_dir, or one without links
        shutil.copy2(path, target)


def _iter_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a run, sorted, without hidden ones and superseded checkpoints; `checkpoints` may be a link."""
    for parent, directories, names in os.walk(folder, followlinks=True):
        is_checkpoints = Path(parent).name == "checkpoints"
        directories[:] = sorted(
            name
            for name in directories
            if not name.startswith(".") and not (is_checkpoints and name.startswith("superseded"))
        )
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


@contextmanager
def upload_run(output_dir: OutputDir, location: Path, is_new: bool) -> Iterator[RunUploader]:
    """Upload the run within the block after each checkpoint, and once more after it.

    Args:
        output_dir: run directory, locked by this process.
        location: URL or directory of the copies of runs; that of this run has its name.
        is_new: whether a new run begins, which must not replace another one.

    Raises:
        UsageError: if nothing can be written there, or there is another run of this name.
    """
    mirror = RunMirror(f"{location}/{output_dir.path.absolute().name}")
    _check_mirror(mirror, output_dir, is_new)
    uploader = RunUploader(output_dir, mirror)
    uploads_end = True
    try:
        yield uploader
    except BaseException as error:
        is_forced = isinstance(error, Interrupted) and error.forced
        uploads_end = not is_forced and not isinstance(error, (OutputDirLostError, KeyboardInterrupt))
        raise
    finally:
        if uploads_end:
            if output_dir.has_run():
                uploader.submit()
            uploader.close()


def _check_mirror(mirror: RunMirror, output_dir: OutputDir, is_new: bool) -> None:
    try:
        manifest = mirror.latest()
        if manifest is None:
            mirror.check_writable()
    except UsageError as error:
        raise UsageError(f"--trainer.mirror_to {error}") from error
    if manifest is not None and (is_new or manifest.run != run_identity(output_dir)):
        raise UsageError(
            f"--trainer.mirror_to {mirror.url}: already contains a run. Run `resume-training {mirror.url}` to continue "
            "it, or choose another name of the run directory."
        )
