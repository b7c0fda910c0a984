"""Run directory: its file names, and what exists."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.batch_layout import BATCH_INDEX, RUNS_DIR, run_code_dir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import check_links
from tfaip_like._utils.locks import lock_descriptor

logger = logging.getLogger(__name__)

TRAINER_PARAMS = "trainer_params.json"
RUN = "run.json"
HISTORY = "history.csv"
RUN_MARKERS = (RUN, TRAINER_PARAMS, HISTORY)
"""Files, one of which every run directory contains."""

NONDETERMINISTIC_COLUMNS = ("seconds", "samples_per_second", "input_bound", "memory_mb", "gpu_memory_mb", "mfu")
"""Columns of `history.csv` that differ between identical runs."""
GRADIENT_NORM = "gradient_norm"
BOOKKEEPING_COLUMNS = ("epoch", "step", "lr", *NONDETERMINISTIC_COLUMNS, GRADIENT_NORM)
"""Columns of `history.csv` that are neither losses nor metrics."""


@dataclass(frozen=True)
class OutputDir:
    """Run directory (`--trainer.output_dir`)."""

    path: Path

    @property
    def trainer_params(self) -> Path:
        """Parameter tree."""
        return self.path / TRAINER_PARAMS

    @property
    def run(self) -> Path:
        """Provenance and status."""
        return self.path / RUN

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
        return self.path / HISTORY

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
    def loggers(self) -> Path:
        """Record of what the loggers have logged."""
        return self.path / "loggers.json"

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

    def batch_dir(self) -> Path | None:
        """Return the directory of the batch that this run is part of, None if there is none."""
        path = self.path.absolute()
        batch = path.parent.parent
        return batch if path.parent.name == RUNS_DIR and (batch / BATCH_INDEX).is_file() else None

    def batch_code_dir(self) -> Path | None:
        """Return the code directory that the batch of this run has for it; None if the run is not part of a batch."""
        batch = self.batch_dir()
        code = run_code_dir(batch, self.path.absolute().name) if batch is not None else None
        return code if code is not None and code.is_dir() else None

    def has_run(self) -> bool:
        """Return whether a run in this directory has completed an epoch or written a checkpoint."""
        has_checkpoints = self.checkpoints.exists() and any(self.checkpoints.iterdir())
        return self.history.exists() or self.best.exists() or has_checkpoints

    def has_run_since(self, timestamp: float) -> bool:
        """Return whether `run.json` was written after a time; earlier versions belong to an earlier submission."""
        return self.run.exists() and self.run.stat().st_mtime > timestamp

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
            raise UsageError(f"--trainer.checkpoint_dir {folder}: cannot be written: {os_error_text(error)}") from error

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


def os_error_text(error: OSError) -> str:
    """Return the reason of an error of the operating system."""
    return os.strerror(error.errno) if error.errno else str(error)
