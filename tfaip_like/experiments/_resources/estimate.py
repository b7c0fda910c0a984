"""What the runs of a batch will take, calculated from calibrations, which are kept in the batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.typed_json import read_typed_json
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._launchers.array_jobs import ArrayJob, ResourceLimits, Task
from tfaip_like.experiments._resources.calibration import (
    Calibration,
    RemainingWork,
    calibrate,
    compute_remaining_work,
    compute_size_score,
    configuration_from_setup_key,
    format_duration,
    make_setup_key,
)

SAFETY_MARGIN = 1.3
MEMORY_MARGIN_MB = 200
MAX_CALIBRATIONS = 3
"""Runs that are calibrated by one submission, each of another set-up."""


@dataclass(frozen=True)
class Estimates:
    """What the runs of a batch will take, by the calibrations of some of them."""

    batch: Batch
    calibrations: Sequence[Calibration]
    save_seconds: int
    done: Mapping[str, int] = field(default_factory=dict)
    """Epochs that runs have done already."""

    def limits(self, task: Task) -> ResourceLimits:
        """Return the limits of a task, whose runs are trained one after another."""
        each = [(self.calibration_for(run), self.work(run)) for run in task]
        seconds = sum(calibration.estimate_seconds(work) for calibration, work in each)
        return ResourceLimits(time_limit(seconds, self.save_seconds), memory_limit(max(one.memory for one, _ in each)))

    def calibration_for(self, run: BatchRun) -> Calibration:
        """Return the calibration of the set-up of a run, or the largest one of its configuration."""
        own = next((one for one in self.calibrations if one.setup == make_setup_key(run)), None)
        return own or max(
            self.calibrations, key=lambda one: (configuration_from_setup_key(one.setup) == run.configuration, one.size)
        )

    def work(self, run: BatchRun) -> RemainingWork:
        """Return what is left to do of a run."""
        return compute_remaining_work(self.batch, run, self.done.get(run.name, 0))

    def text(self, runs: Sequence[BatchRun], jobs: Sequence[ArrayJob]) -> str:
        """Return the calculation, for the person who submits."""
        lines = [
            self._describe_longest(one, [run for run in runs if self.calibration_for(run) is one])
            for one in self.calibrations
        ]
        setups = {make_setup_key(run): run.name for run in runs}
        measured = {one.setup for one in self.calibrations}
        if others := [name for setup, name in setups.items() if setup not in measured]:
            lines.append(f"not measured: {truncate_list(others)}; where they take more, give --time and --mem")
        for job in jobs:
            count = pluralize(len(job.tasks), "task")
            names = truncate_list([run.name for task in job.tasks for run in task])
            lines.append(f"--time {job.request.time} --mem {job.request.memory}  for {count}: {names}")
        margin = f"{round(100 * (SAFETY_MARGIN - 1))} %"
        lines.append(
            f"(the time and {margin}, {self.save_seconds} s to save and a minute; the memory and {margin} and "
            f"{MEMORY_MARGIN_MB} MB; rounded up)"
        )
        return "\n".join(line for line in lines if line)

    def _describe_longest(self, calibration: Calibration, runs: Sequence[BatchRun]) -> str:
        works = [self.work(run) for run in runs]
        return calibration.text(max(works, key=calibration.estimate_seconds)) if works else ""


def time_limit(seconds: float, save_seconds: int) -> str:
    """Return the time limit for what takes some seconds, as SLURM writes it; of two digits, so that few differ."""
    # A cluster looks at time limits once a minute, and may send its signal so much earlier.
    minutes = math.ceil((SAFETY_MARGIN * seconds + save_seconds + 60) / 60)
    step = 10 ** max(0, len(str(minutes)) - 2)
    return format_duration(60 * step * math.ceil(minutes / step))


def memory_limit(megabytes: float) -> str:
    """Return the memory for what takes some megabytes, as SLURM writes it."""
    return f"{100 * math.ceil((SAFETY_MARGIN * megabytes + MEMORY_MARGIN_MB) / 100)}M"


@dataclass(frozen=True)
class _StoredCalibrations:
    """What `calibrations.json` holds."""

    calibrations: tuple[Calibration, ...] = ()


def read_calibrations(batch: Batch) -> list[Calibration]:
    """Return the calibrations that earlier submissions have left.

    Raises:
        UsageError: if the file is damaged; it names the key or line.
    """
    file = _calibrations_path(batch)
    if not file.exists() and not file.is_symlink():
        return []
    try:
        return list(read_typed_json(_StoredCalibrations, file).calibrations)
    except UsageError as error:
        raise UsageError(f"{error}\nDelete this file to measure the runs again.") from error


def remove_calibrations(batch: Batch, configurations: Collection[str]) -> None:
    """Let runs of some configurations be measured again: their code has changed."""
    kept = read_calibrations(batch)
    left = tuple(one for one in kept if configuration_from_setup_key(one.setup) not in configurations)
    if len(left) < len(kept):
        write_json(_calibrations_path(batch), dataclasses.asdict(_StoredCalibrations(left)))


def _calibrations_path(batch: Batch) -> Path:
    return batch.path / "calibrations.json"


def estimate(
    batch: Batch, runs: Sequence[BatchRun], save_seconds: int, done: Mapping[str, int], again: bool = False
) -> Estimates:
    """Return what runs will take, by the calibrations that are kept and those that are missing.

    Args:
        done: epochs that runs have done already.
        again: measure what was measured before, too.

    Raises:
        UsageError: when a run fails even so far, or has no end that could be calculated.
        Interrupted: after a signal; of the interrupted calibration nothing is left.
    """
    return Estimates(batch, calibrate_missing(batch, runs, again=again), save_seconds, done)


def calibrate_missing(
    batch: Batch, runs: Sequence[BatchRun], max_count: int = MAX_CALIBRATIONS, again: bool = False
) -> list[Calibration]:
    """Calibrate runs of set-ups that were not measured before; return what is known then, which is kept.

    Args:
        max_count: runs that are measured.
        again: forget what was measured before.

    Raises:
        UsageError, Interrupted: see `estimate`.
    """
    kept = [] if again else read_calibrations(batch)
    with graceful_shutdown_signals() as interrupt:
        for run in choose_runs_to_calibrate(runs, kept)[:max_count]:
            kept.append(calibrate(batch, run, interrupt.check))
            write_json(_calibrations_path(batch), dataclasses.asdict(_StoredCalibrations(tuple(kept))))
    return kept


def choose_runs_to_calibrate(runs: Iterable[BatchRun], kept: Sequence[Calibration] = ()) -> list[BatchRun]:
    """Return the runs to measure: the largest of each configuration, then other set-ups, the largest first.

    Large is what was given large whole numbers: units, layers, files. A configuration is not measured again, unless
    it has a larger run now.
    """
    by_size = sorted(runs, key=lambda run: (compute_size_score(run), run.epochs), reverse=True)
    known = {configuration_from_setup_key(one.setup): one.size for one in sorted(kept, key=lambda one: one.size)}
    largest: dict[str, BatchRun] = {}
    setups: dict[str, BatchRun] = {}
    for run in by_size:
        if compute_size_score(run) > known.get(run.configuration, -1):
            largest.setdefault(run.configuration, run)
        if run.configuration not in known:
            setups.setdefault(make_setup_key(run), run)
    order = [*largest.values(), *setups.values()]
    unique: dict[str, BatchRun] = {}
    for run in order:
        unique.setdefault(make_setup_key(run), run)
    return list(unique.values())[:MAX_CALIBRATIONS]
