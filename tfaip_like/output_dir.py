"""The folder of a run: the names of what lies in it, and its state."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like.errors import UsageError
from tfaip_like.files import write_text


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

    def holds_a_run(self) -> bool:
        """Whether a training was started here."""
        return self.trainer_params.exists() or self.run.exists()

    def status(self) -> str:
        """What became of the run, in a few words for a message."""
        try:
            run: dict[str, Any] = json.loads(self.run.read_text(encoding="utf-8"))
            return f"{run['status']}, started {run['started']}"
        except (OSError, ValueError, KeyError):
            return "status unknown"

    def create(self) -> None:
        """Makes the folder for a new run.

        Raises:
            UsageError: when it holds a run already, or cannot be written.
        """
        if self.holds_a_run():
            raise UsageError(
                f"--trainer.output_dir {self.path}: there is a run in this folder already ({self.status()}).\n"
                "Choose another folder, or delete this one if you no longer need it."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.run, "{}\n")
        except OSError as error:
            raise UsageError(
                f"--trainer.output_dir {self.path}: cannot be written: {os.strerror(error.errno or 0)}"
            ) from error
