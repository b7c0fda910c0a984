"""The folder of a run: the names of what lies in it, and its state."""

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

from tfaip_like._runs.batch_layout import BATCH_INDEX, RUNS_DIR, run_code_dir
from tfaip_like._runs.run_files import RunInfo, read_run_file
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.files import atomic_write_text, check_links, recover_interrupted_writes, write_guard
from tfaip_like._utils.operating_system import lock_file

logger = logging.getLogger(__name__)

BOOKKEEPING_COLUMNS = ("epoch", "lr", "seconds", "samples_per_second", "input_bound", "memory_mb", "gradient_norm")
"""The columns of `history.csv` that are neither losses nor metrics."""

CHECK_INTERVAL_S = 0.5


class OutputDirLostError(TrainingError):
    """The output folder is no longer there: deleted, emptied, moved, or replaced by another one."""


@dataclass(frozen=True)
class OutputDir:
    """The output folder of one run."""

    path: Path

    @property
    def trainer_params(self) -> Path:
        """The whole parameter tree."""
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
        """The log."""
        return self.path / "train.log"

    @property
    def history(self) -> Path:
        """A row per epoch."""
        return self.path / "history.csv"

    @property
    def summary(self) -> Path:
        """Outcome and parameters that differ from their defaults."""
        return self.path / "summary.json"

    @property
    def bad_samples(self) -> Path:
        """Samples that were left out, and why."""
        return self.path / "bad_samples.csv"

    @property
    def non_finite(self) -> Path:
        """Samples of the steps whose loss or gradient was no finite number."""
        return self.path / "non_finite"

    @property
    def resources(self) -> Path:
        """Files that the pipeline has learnt from the data."""
        return self.path / "resources"

    @property
    def checkpoints(self) -> Path:
        """Complete states of the training."""
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
        """Event files."""
        return self.path / "tensorboard"

    @property
    def model(self) -> Path:
        """The layers of the network, as text."""
        return self.path / "model.txt"

    @property
    def summaries(self) -> Path:
        """What the latest validations showed: a folder each."""
        return self.path / "summaries"

    @property
    def used_data(self) -> Path:
        """Samples as the network sees them, where they are kept: a folder for training, one for validation."""
        return self.path / "used_data"

    @property
    def report(self) -> Path:
        """All that is known of the run, on one page."""
        return self.path / "report.html"

    def batch_code_dir(self) -> Path | None:
        """Return the code that the batch of this run keeps for it; None for a run that belongs to no batch."""
        path = self.path.absolute()
        batch = path.parent.parent
        if path.parent.name != RUNS_DIR or not (batch / BATCH_INDEX).is_file():
            return None
        code = run_code_dir(batch, path.name)
        return code if code.is_dir() else None

    def has_run(self) -> bool:
        """Return whether a training here has finished an epoch."""
        has_checkpoints = self.checkpoints.exists() and any(self.checkpoints.iterdir())
        return self.history.exists() or self.best.exists() or has_checkpoints

    def read_info(self) -> RunInfo:
        """Return the contents of `run.json`, nothing if there is none.

        Raises:
            UsageError: if it is damaged; it names the file and the key or line.
        """
        return read_run_file(RunInfo, self.run)

    def read_start_time(self) -> float | None:
        """Return when the run was started for the first time, in seconds since 1970; None if that is not known."""
        started = self.read_info().get("started", "")
        try:
            return datetime.fromisoformat(started).timestamp()
        except ValueError:
            return None

    def link_checkpoints_to(self, folder: Path) -> None:
        """Make `checkpoints` a link to a folder below another one, under the path of this run.

        Checkpoints that are there already stay where they are. A folder that is there already belongs to a run that was
        moved or deleted: this run gets another one.

        Raises:
            UsageError: if that folder cannot be made.
        """
        place = folder.absolute() / self.path.absolute().relative_to("/")
        try:
            if self.checkpoints.is_symlink():
                if self.has_run():
                    check_links(self.checkpoints)
                self.checkpoints.resolve().mkdir(parents=True, exist_ok=True)  # scratch may have been emptied
            elif not self.checkpoints.exists():
                self.checkpoints.symlink_to(_make_unique_dir(place))
        except OSError as error:
            raise UsageError(
                f"--trainer.checkpoint_dir {folder}: cannot be written: {_os_error_text(error)}"
            ) from error

    def is_locked(self) -> bool:
        """Return whether a training runs in it now, of this process or another; yes where locks cannot tell."""
        try:
            folder = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            lock_file(folder, shared=True, wait=False)
        except OSError:
            return True
        finally:
            os.close(folder)
        return False

    @contextmanager
    def acquire(self, resume: bool = False) -> Iterator[OutputDirLock]:
        """Makes the folder for a new run and keeps others out of it for the length of the block.

        What is left of a run that failed before its first epoch goes. The folder is locked for this
        process, so that a lock never outlives it. Nothing is written once the folder is no longer there.

        Args:
            resume: with the run that is there.

        Raises:
            UsageError: when it holds a run already, another one runs in it, or it cannot be written.
        """
        where = f"--trainer.output_dir {self.path}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
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
            hold = OutputDirLock(self, folder)
            with write_guard(self.path, hold.check):
                yield hold
        finally:
            os.close(folder)

    def _lock(self, folder: int, where: str) -> None:
        try:
            lock_file(folder, wait=False)
        except BlockingIOError as error:
            raise UsageError(f"{where}: a training is running in this folder; choose another one") from error
        except OSError as error:  # a file system without locks
            logger.debug("%s cannot be locked: %s", self.path, error)

    def _prepare_new_run(self, where: str) -> None:
        """Makes the folder ready for a new run."""
        if self.has_run():
            status = str(self.read_info().get("status", "unknown"))
            if status == "running":  # but the lock is free
                status = "killed"
            raise UsageError(
                f"{where}: there is a run in this folder already (status {status}).\n"
                f"resume-training {self.path} goes on with it; for a new run choose another folder, or delete this one."
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
    """The output folder of a training that runs: another one under its name must not be taken for it.

    Args:
        descriptor: of the folder that was opened when the training began.
    """

    def __init__(self, output_dir: OutputDir, descriptor: int):
        self._output_dir = output_dir
        self._descriptor = descriptor
        self._checked = time.monotonic()

    def check(self) -> None:
        """Raise if the folder was deleted, emptied, moved or replaced.

        Raises:
            OutputDirLostError: names the folder and what has become of it.
        """
        self._checked = time.monotonic()
        if (reason := self._lost_reason()) is not None:
            raise OutputDirLostError(
                f"--trainer.output_dir {self._output_dir.path}: the training stopped because this folder {reason}"
            )

    def check_periodically(self) -> None:
        """Do the same if that was some time ago: it may be a file system over the network."""
        if time.monotonic() - self._checked > CHECK_INTERVAL_S:
            self.check()

    def is_lost(self) -> bool:
        """Return whether `check` raises."""
        return self._lost_reason() is not None

    def _lost_reason(self) -> str | None:
        """Return what has become of the folder, None if it is where it was."""
        path = self._output_dir.path
        try:
            found, held = _file_identity(path), _file_identity(self._descriptor)
            if found is not None and found == held:
                return None if _file_identity(self._output_dir.run) else "was emptied"
        except OSError as error:  # a file server that does not answer: writing will say more
            logger.debug("%s: %s", path, error)
            return None
        if (place := _current_path(self._descriptor)) is not None:
            return f"is now {place}; resume-training {place} continues it"
        return "was deleted or moved" if found is None else "was deleted or moved, and another one is in its place"


def _make_unique_dir(path: Path) -> Path:
    """Make a folder; one that is there already is left alone, and this one gets a number."""
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
    """Return what tells a file from all others, None if it is not there."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
            return None
        raise
    return found.st_dev, found.st_ino


def _current_path(descriptor: int) -> str | None:
    """Return where an open folder is now, None where the system does not tell."""
    try:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None
    return place if os.path.isdir(place) else None


def _os_error_text(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
