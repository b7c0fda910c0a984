"""Additional epochs for runs of a batch.

jobs/NAME.flags  flags that `job.sh` passes whenever it resumes a run
jobs/NAME.once   flags for the next time only
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.reader import Run
from tfaip_like._training.checkpointing.checkpoints import Position, list_checkpoints
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.experiments._batches.batch import Batch, BatchIndex
from tfaip_like.experiments._status.batch_status import BatchStatus
from tfaip_like.experiments._status.run_state import ACTIVE_STATES


@dataclass(frozen=True)
class EpochExtension:
    """Additional epochs for a run."""

    name: str
    start_epoch: int
    """Number of the epoch after which it resumes."""
    epochs: int
    """New total number of epochs."""
    is_rewind: bool
    """Whether epochs after `start_epoch` are discarded."""


@dataclass(frozen=True)
class EpochExtensions:
    """Additional epochs for several runs."""

    runs: Mapping[str, EpochExtension]
    """Extension of each run."""
    stopped_early: Sequence[str] = ()
    """Runs without an extension, because they would stop early again."""
    active: Sequence[str] = ()
    """Runs without an extension, because they are active."""

    def apply_to_index(self, index: BatchIndex) -> BatchIndex:
        """Return the index with the new number of epochs of each run."""
        runs = (
            dataclasses.replace(run, epochs=self.runs[run.name].epochs) if run.name in self.runs else run
            for run in index.runs
        )
        return dataclasses.replace(index, runs=tuple(runs))

    def apply_to_status(self, status: BatchStatus) -> BatchStatus:
        """Return the status in which extended runs are new runs with some completed epochs."""
        runs = [
            dataclasses.replace(run, state="new", epoch=self.runs[run.name].start_epoch)
            if run.name in self.runs
            else run
            for run in status.runs
            if run.name not in self.stopped_early
        ]
        return dataclasses.replace(status, runs=runs)

    def write(self, batch: Batch) -> None:
        """Write the flags of extended runs and the index; idempotent; the caller holds `batch.lock()`."""
        if not self.runs:
            return
        for run in self.runs.values():
            always, once = _extension_paths(batch, run.name)
            atomic_write_text(always, f"--trainer.epochs\n{run.epochs}\n")
            if run.is_rewind:
                atomic_write_text(once, f"--resume.epoch\n{run.start_epoch}\n")
        batch.write_index(self.apply_to_index(batch.read_index()))


def plan_extensions(
    batch: Batch, status: BatchStatus, names: Sequence[str], additional: int, previous: int | None
) -> EpochExtensions:
    """Return extensions for those of the named runs that are not active.

    Args:
        batch: batch of the runs.
        status: status of the batch.
        names: names of the runs.
        additional: number of additional epochs, at least 1.
        previous: epoch to resume from, at least 1; by default the last completed one.

    Raises:
        UsageError: if a run has no completed epoch, or no checkpoint of `previous`.
    """
    runs = [run for run in status.runs if run.name in names and run.state not in ACTIVE_STATES]
    early = [run.name for run in runs if previous is None and _is_stopped_early(batch, run.name)]
    runs = [run for run in runs if run.name not in early]
    if new := [run.name for run in runs if not run.epoch]:
        raise UsageError(
            f"--additional_epochs: no completed epoch in {truncate_list(new)}; omit this flag, or select other runs"
        )
    start_epochs = {run.name: run.epoch if previous is None else previous for run in runs}
    is_rewind = previous is not None
    if previous is not None and (
        missing := [name for name in start_epochs if not _has_checkpoint(batch, name, previous)]
    ):
        raise UsageError(
            f"--previous_epochs {previous}: no checkpoint of this epoch in {truncate_list(missing)}; set "
            "--trainer.keep_every_n 1 in the plan to keep all checkpoints"
        )
    extended = {
        name: EpochExtension(name, start, start + additional, is_rewind) for name, start in start_epochs.items()
    }
    active = [run.name for run in status.runs if run.name in names and run.state in ACTIVE_STATES]
    return EpochExtensions(extended, early, active)


def remove_extension(batch: Batch, name: str) -> None:
    """Remove the extension of a run, so that it is trained as planned."""
    for file in _extension_paths(batch, name):
        file.unlink(missing_ok=True)


def _extension_paths(batch: Batch, name: str) -> tuple[Path, Path]:
    return batch.jobs_dir / f"{name}.flags", batch.jobs_dir / f"{name}.once"


def _is_stopped_early(batch: Batch, name: str) -> bool:
    return bool(Run(batch.run_dir(name), []).summary.get("stopped_early"))


def _has_checkpoint(batch: Batch, name: str, epoch: int) -> bool:
    checkpoints = list_checkpoints(batch.run_dir(name).checkpoints)
    return any(checkpoint.position == Position(epoch, 0) for checkpoint in checkpoints)
