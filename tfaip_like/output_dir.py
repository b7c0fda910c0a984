"""The folder of a run: the names of what lies in it, and its state."""

from __future__ import annotations

import json
import os
import socket
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
        """Whether there is a training here: a running one, or one that finished an epoch."""
        return self.history.exists() or self.best.exists() or self.checkpoints.exists() or self._is_running()

    def record(self) -> dict[str, Any]:
        """The contents of `run.json`, nothing if there is none."""
        try:
            values: dict[str, Any] = json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values

    def _is_running(self) -> bool:
        run = self.record()
        if run.get("status") != "running":
            return False
        return run.get("host") != socket.gethostname() or _process_exists(int(run.get("pid", 0)))

    def create(self) -> None:
        """Makes the folder for a new run; what is left of one that failed before its first epoch goes.

        Raises:
            UsageError: when it holds a run already, or cannot be written.
        """
        if self.holds_a_run():
            status = self.record().get("status", "unknown")
            raise UsageError(
                f"--trainer.output_dir {self.path}: there is a run in this folder already (status {status}).\n"
                "Choose another folder, or delete this one if you no longer need it."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.run, "{}\n")
            for leftover in (self.train_log, self.git_diff):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(f"--trainer.output_dir {self.path}: cannot be written: {reason}") from error


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return pid > 0
