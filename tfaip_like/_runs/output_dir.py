"""Run directory: file names, lock and state."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfaip_like._runs.batch_layout import BATCH_INDEX, BATCH_VARIABLE, RUNS_DIR, run_code_dir
from tfaip_like._runs.run_files import RunInfo, read_run_file
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.files import atomic_write_text, check_links, recover_interrupted_writes, write_guard
from tfaip_like._utils.locks import lock_descriptor

logger = logging.getLogger(__name__)

BOOKKEEPING_COLUMNS = ("epoch", "lr", "seconds", "samples_per_second", "input_bound", "memory_mb", "gradient_norm")
"""Columns of `history.csv` that are neither losses nor metrics."""

CHECK_INTERVAL_S = 0.5


class OutputDirLostError(TrainingError):
    """Error for a run directory that was deleted, emptied, moved or replaced during training."""


@dataclass(frozen=True)
class OutputDir:
    """Run directory (`--trainer.output_dir`)."""

    path: Path

    @property
    def trainer_params(self) -> Path:
        """Parameter tree."""
        return self.path / "trainer_params.json"

    @property
    def run(self) -> Path:
        """Provenance and status."""
        return self.path / "run.json"

    @property
    def git_diff(self) -> Path:
        """Uncommitted changes of the scenario's repository."""
        return self.path / "git.diff"

    @property
    def train_log(self) -> Path:
        """Log file."""
        return self.path / "train.log"

    @property
    def history(self) -> Path:
        """Table with the values of each epoch."""
        return self.path / "history.csv"

    @property
    def summary(self) -> Path:
        """Outcome and parameters that differ from their defaults."""
        return self.path / "summary.json"

    @property
    def bad_samples(self) -> Path:
        """List of skipped samples with the reasons."""
        return self.path / "bad_samples.csv"

    @property
    def non_finite(self) -> Path:
        """Directory with the samples of steps with a non-finite loss or gradient."""
        return self.path / "non_finite"

    @property
    def resources(self) -> Path:
        """Directory of files that the pipeline derived from the data."""
        return self.path / "resources"

    @property
    def checkpoints(self) -> Path:
        """Directory of checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Export of the best epoch."""
        return self.path / "best"

    @property
    def export(self) -> Path:
        """Export of the last epoch."""
        return self.path / "export"

    @property
    def tensorboard(self) -> Path:
        """Directory of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def model(self) -> Path:
        """Model summary as text."""
        return self.path / "model.txt"

    @property
    def summaries(self) -> Path:
        """Directory of the summaries of the latest validations, with a subdirectory per kind."""
        return self.path / "summaries"

    @property
    def used_data(self) -> Path:
        """Directory of samples as the model received them (`--trainer.keep_data`)."""
        return self.path / "used_data"

    @property
    def report(self) -> Path:
        """HTML report."""
        return self.path / "report.html"

    def batch_code_dir(self) -> Path | None:
        """Return the code directory that the batch of this run has for it; None if the run is not part of a batch."""
        path = self.path.absolute()
        batch = path.parent.parent
        if path.parent.name != RUNS_DIR or not (batch / BATCH_INDEX).is_file():
            return None
        code = run_code_dir(batch, path.name)
        return code if code.is_dir() else None

    def has_run(self) -> bool:
        """Return whether a run in this directory has completed an epoch or written a checkpoint."""
        has_checkpoints = self.checkpoints.exists() and any(self.checkpoints.iterdir())
        return self.history.exists() or self.best.exists() or has_checkpoints

    def read_info(self) -> RunInfo:
        """Read `run.json`; return an empty mapping if it does not exist.

        Raises:
            UsageError: if it is damaged; names the file and the key or line.
        """
        return read_run_file(RunInfo, self.run)

    def read_start_time(self) -> float | None:
        """Return the time of the first start of the run, in seconds since 1970; None if unknown."""
        started = self.read_info().get("started", "")
        try:
            return datetime.fromisoformat(started).timestamp()
        except ValueError:
            return None

    def link_checkpoints_to(self, folder: Path) -> None:
        """Make `checkpoints` a link to a new directory below `folder`, named by the path of this run.

        Existing checkpoints stay in place. An existing target directory belongs to a run that was moved or deleted, so
        a numbered one is created next to it.

        Raises:
            UsageError: if the directory cannot be created.
        """
        target = folder.absolute() / self.path.absolute().relative_to("/")
        try:
            if self.checkpoints.is_symlink():
                if self.has_run():
                    check_links(self.checkpoints)
                self.checkpoints.resolve().mkdir(parents=True, exist_ok=True)  # scratch may have been emptied
            elif not self.checkpoints.exists():
                self.checkpoints.symlink_to(_make_unique_dir(target))
        except OSError as error:
            raise UsageError(
                f"--trainer.checkpoint_dir {folder}: cannot be written: {_os_error_text(error)}"
            ) from error

    def is_locked(self) -> bool:
        """Return whether a run is training in this directory, in any process; True if the lock cannot be queried."""
        try:
            folder = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            lock_descriptor(folder, shared=True, wait=False)
        except OSError:
            return True
        finally:
            os.close(folder)
        return False

    @contextmanager
    def acquire(self, resume: bool = False) -> Iterator[OutputDirLock]:
        """Create and lock the directory for the duration of the block.

        For a new run, removes the remains of a run that failed before its first epoch. The lock belongs to the process
        and never outlives it. Writes to the directory raise once it has been deleted, moved or replaced.

        Args:
            resume: resume the run in the directory instead of starting a new one.

        Raises:
            UsageError: if the directory contains a run already, another process trains in it, or it is not writable.
        """
        where = f"--trainer.output_dir {self.path}"
        try:
            if not resume:
                self._create()
            folder = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"{where}: cannot be written: {_os_error_text(error)}") from error
        try:
            self._lock(folder, where)
            recover_interrupted_writes(self.path)
            if not resume:
                self._prepare_new_run(where)
            elif not self.run.exists():
                atomic_write_text(self.run, "{}\n")
            lock = OutputDirLock(self, folder)
            with write_guard(self.path, lock.check):
                yield lock
        finally:
            os.close(folder)

    def _create(self) -> None:
        """Create the directory, but not the batch that starts this run: it may have been moved in the meantime."""
        batch = Path(os.environ.get(BATCH_VARIABLE, ""))
        if self.path.absolute().parent != batch / RUNS_DIR:
            self.path.mkdir(parents=True, exist_ok=True)
            return
        try:
            (batch / BATCH_INDEX).stat()
            self.path.parent.mkdir(exist_ok=True)
            self.path.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise UsageError(
                f"--trainer.output_dir {self.path}: the batch {batch} was moved or deleted; if it was moved, submit "
                "the run from its new location"
            ) from error

    def _lock(self, folder: int, where: str) -> None:
        try:
            lock_descriptor(folder, wait=False)
        except BlockingIOError as error:
            raise UsageError(
                f"{where}: another process is training in this directory; choose a different one"
            ) from error
        except OSError as error:  # file system without locks
            logger.debug("cannot lock %s: %s", self.path, error)

    def _prepare_new_run(self, where: str) -> None:
        """Check that the directory contains no run, and remove the remains of a run without epochs."""
        if self.has_run():
            status = str(self.read_info().get("status", "unknown"))
            if status == "running":  # but not locked
                status = "killed"
            raise UsageError(
                f"{where}: already contains a run (status {status}).\n"
                f"Run `resume-training {self.path}` to continue it, or choose another directory for a new run."
            )
        try:
            atomic_write_text(self.run, "{}\n")
            for file in (
                self.train_log,
                self.git_diff,
                self.trainer_params,
                self.bad_samples,
                self.model,
                self.summary,
                self.report,
            ):
                file.unlink(missing_ok=True)
            for folder in (self.tensorboard, self.summaries):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise UsageError(f"{where}: cannot be written: {_os_error_text(error)}") from error


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


def _make_unique_dir(path: Path) -> Path:
    """Create a folder, with a number appended to its name if it exists already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, folder = 1, path
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = path.with_name(f"{path.name}_{number}")


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


def _os_error_text(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
