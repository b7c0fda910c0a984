"""Lock of a run directory, and its detection that the directory was lost."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like._runs.batch_layout import BATCH_INDEX, BATCH_VARIABLE, RUNS_DIR
from tfaip_like._runs.output_dir import OutputDir, os_error_text
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import RUN_INFO_FORMAT, RunInfo
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.files import recover_interrupted_writes, write_guard
from tfaip_like._utils.locks import lock_descriptor

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 0.5


class OutputDirLostError(TrainingError):
    """Error for a run directory that was deleted, emptied, moved or replaced during training."""


@contextmanager
def lock_output_dir(output_dir: OutputDir, resume: bool = False) -> Iterator[OutputDirLock]:
    """Create and lock the directory for the duration of the block.

    For a new run, removes the remains of a run that failed before its first epoch. The lock belongs to the process
    and never outlives it. Writes to the directory raise once it has been deleted, moved or replaced.

    Args:
        output_dir: run directory.
        resume: resume the run in the directory instead of starting a new one.

    Raises:
        UsageError: if the directory contains a run already, another process trains in it, or it is not writable.
    """
    where = f"--trainer.output_dir {output_dir.path}"
    try:
        if not resume:
            _create(output_dir.path)
        folder = os.open(output_dir.path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{where}: cannot be written: {os_error_text(error)}") from error
    try:
        _lock(output_dir.path, folder, where)
        recover_interrupted_writes(output_dir.path)
        if not resume:
            _prepare_new_run(output_dir, where)
        elif not output_dir.run.exists():
            RUN_INFO_FORMAT.write(output_dir.run, RunInfo())
        lock = OutputDirLock(output_dir, folder)
        with write_guard(output_dir.path, lock.check):
            yield lock
    finally:
        os.close(folder)


def _create(path: Path) -> None:
    """Create the directory, but not the batch that starts this run: it may have been moved in the meantime."""
    batch = Path(os.environ.get(BATCH_VARIABLE, ""))
    if path.absolute().parent != batch / RUNS_DIR:
        path.mkdir(parents=True, exist_ok=True)
        return
    try:
        (batch / BATCH_INDEX).stat()
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise UsageError(
            f"--trainer.output_dir {path}: the batch {batch} was moved or deleted; if it was moved, submit "
            "the run from its new location"
        ) from error


def _lock(path: Path, folder: int, where: str) -> None:
    try:
        lock_descriptor(folder, wait=False)
    except BlockingIOError as error:
        raise UsageError(f"{where}: another process is training in this directory; choose a different one") from error
    except OSError as error:  # file system without locks
        logger.debug("cannot lock %s: %s", path, error)


def _prepare_new_run(output_dir: OutputDir, where: str) -> None:
    """Check that the directory contains no run, and remove the remains of a run without epochs."""
    if output_dir.has_run():
        status = Run(output_dir, problems=[]).info.get("status", "unknown")  # this process holds the lock
        raise UsageError(
            f"{where}: already contains a run (status {'killed' if status == 'running' else status}).\n"
            f"Run `resume-training {output_dir.path}` to continue it, or choose another directory for a new run."
        )
    try:
        RUN_INFO_FORMAT.write(output_dir.run, RunInfo())
        for file in (
            output_dir.train_log,
            output_dir.git_diff,
            output_dir.trainer_params,
            output_dir.bad_samples,
            output_dir.loggers,
            output_dir.model,
            output_dir.summary,
            output_dir.report,
        ):
            file.unlink(missing_ok=True)
        for folder in (output_dir.tensorboard, output_dir.summaries):
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"{where}: cannot be written: {os_error_text(error)}") from error


class OutputDirLock:
    """Lock of a run directory; detects that the directory was replaced by another one of the same name.

    Args:
        output_dir: run directory.
        descriptor: open file descriptor of the directory, which holds the lock.
    """

    def __init__(self, output_dir: OutputDir, descriptor: int):
        self._output_dir = output_dir
        self._descriptor = descriptor
        self._checked = time.monotonic()

    def check(self) -> None:
        """Raise if the directory was deleted, emptied, moved or replaced.

        Raises:
            OutputDirLostError: names the directory and what happened to it.
        """
        self._checked = time.monotonic()
        if (reason := self._lost_reason()) is not None:
            raise OutputDirLostError(
                f"--trainer.output_dir {self._output_dir.path}: training stopped because this directory {reason}"
            )

    def check_periodically(self) -> None:
        """Call `check` if the last call was some time ago, because network file systems are slow."""
        if time.monotonic() - self._checked > CHECK_INTERVAL_S:
            self.check()

    def is_lost(self) -> bool:
        """Return whether `check` raises."""
        return self._lost_reason() is not None

    def _lost_reason(self) -> str | None:
        """Return what happened to the directory, None if it is intact."""
        path = self._output_dir.path
        try:
            current, locked = _file_identity(path), _file_identity(self._descriptor)
            if current is not None and current == locked:
                return None if _file_identity(self._output_dir.run) else "was emptied"
        except OSError as error:  # file server not responding: writing to it reports the error
            logger.debug("%s: %s", path, error)
            return None
        if (new_path := _current_path(self._descriptor)) is not None:
            return f"was moved to {new_path}; run `resume-training {new_path}` to continue"
        return "was deleted or moved" if current is None else "was replaced by another one"


def _file_identity(path: Path | int) -> tuple[int, int] | None:
    """Return device and inode of a file, None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
            return None
        raise
    return status.st_dev, status.st_ino


def _current_path(descriptor: int) -> str | None:
    """Return the current path of an open directory, None if the system does not provide it."""
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None
    return path if os.path.isdir(path) else None
