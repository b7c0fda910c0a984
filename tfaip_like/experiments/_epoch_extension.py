"""Training runs of a batch for more epochs than were planned.

jobs/NAME.flags  flags that `job.sh` gives to each resumption of a run
jobs/NAME.once   flags for the next resumption only
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.run_files import RunSummary, read_run_file
from tfaip_like._training.checkpointing.checkpoints import Position, list_checkpoints
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.experiments._batches.batch import Batch, BatchIndex
from tfaip_like.experiments._status import ACTIVE_STATES, BatchStatus


@dataclass(frozen=True)
class EpochExtension:
    """More epochs for a run."""

    name: str
    start_epoch: int
    """The epoch that it continues from."""
    epochs: int
    """Of the whole run."""
    is_rewind: bool
    """Whether later epochs are abandoned."""


@dataclass(frozen=True)
class EpochExtensions:
    """More epochs for runs."""

    runs: Mapping[str, EpochExtension]
    stopped_early: Sequence[str] = ()
    """Runs for which there is nothing to do: they would stop early again."""
    active: Sequence[str] = ()
    """Runs that wait or run, to which nothing was added."""

    def apply_to_index(self, index: BatchIndex) -> BatchIndex:
        """Return the list of runs with their new epochs."""
        runs = (
            dataclasses.replace(run, epochs=self.runs[run.name].epochs) if run.name in self.runs else run
            for run in index.runs
        )
        return dataclasses.replace(index, runs=tuple(runs))

    def apply_to_status(self, status: BatchStatus) -> BatchStatus:
        """Return how far a batch is with them: their runs are new ones that have done some epochs."""
        runs = [
            dataclasses.replace(run, state="new", epoch=self.runs[run.name].start_epoch)
            if run.name in self.runs
            else run
            for run in status.runs
            if run.name not in self.stopped_early
        ]
        return dataclasses.replace(status, runs=runs)

    def write(self, batch: Batch) -> None:
        """Write them down; to be called while `batch.lock()`. Done twice, it changes nothing more."""
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
    """Return the extensions of those of some runs that nobody has in hand.

    Args:
        additional: epochs to train more.
        previous: the epoch to continue from; by default the last one that is done.

    Raises:
        UsageError: for runs that have not got so far.
    """
    runs = [run for run in status.runs if run.name in names and run.state not in ACTIVE_STATES]
    early = [run.name for run in runs if previous is None and _is_stopped_early(batch, run.name)]
    runs = [run for run in runs if run.name not in early]
    if new := [run.name for run in runs if not run.epoch]:
        raise UsageError(
            f"--additional_epochs: {truncate_list(new)} must finish an epoch first; submit without this flag, or "
            "choose other runs"
        )
    wanted = {run.name: run.epoch if previous is None else previous for run in runs}
    if previous is not None and (missing := [name for name in wanted if not _has_checkpoint(batch, name, previous)]):
        raise UsageError(
            f"--previous_epochs {previous}: no checkpoint of this epoch in {truncate_list(missing)}; a plan with "
            "--trainer.keep_every_n 1 keeps all of them"
        )
    extended = {
        run.name: EpochExtension(run.name, wanted[run.name], wanted[run.name] + additional, previous is not None)
        for run in runs
    }
    active = [run.name for run in status.runs if run.name in names and run.state in ACTIVE_STATES]
    return EpochExtensions(extended, early, active)


def remove_extension(batch: Batch, name: str) -> None:
    """Let a run be trained as it was planned."""
    for file in _extension_paths(batch, name):
        file.unlink(missing_ok=True)


def _extension_paths(batch: Batch, name: str) -> tuple[Path, Path]:
    return batch.jobs_dir / f"{name}.flags", batch.jobs_dir / f"{name}.once"


def _is_stopped_early(batch: Batch, name: str) -> bool:
    return bool(read_run_file(RunSummary, batch.run_dir(name).summary, []).get("stopped_early"))


def _has_checkpoint(batch: Batch, name: str, epoch: int) -> bool:
    found = list_checkpoints(batch.run_dir(name).checkpoints)
    return any(checkpoint.position == Position(epoch, 0) for checkpoint in found)
