"""Estimates of the time and memory of runs, from calibrations that are stored in the batch."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like.experiments._batches.batch import Batch, BatchRun
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
from tfaip_like.experiments.launchers._jobs import ArrayJob, ResourceLimits, Task

SAFETY_MARGIN = 1.3
"""Factor of the requested to the estimated time and memory."""
MEMORY_MARGIN_MB = 200
MAX_CALIBRATIONS = 3
"""Maximum number of runs, each with a different setup, that a submission calibrates."""


@dataclass(frozen=True)
class Estimates:
    """Estimates for the runs of a batch, based on calibrations."""

    batch: Batch
    calibrations: Sequence[Calibration]
    save_seconds: int
    """Time reserved for saving before the time limit, in seconds."""
    done: Mapping[str, int] = field(default_factory=dict)
    """Number of completed epochs of each run."""

    def limits(self, task: Task) -> ResourceLimits:
        """Return the limits of a task, which trains its runs sequentially."""
        each = [(self.calibration_for(run), self.work(run)) for run in task]
        seconds = sum(calibration.estimate_seconds(work) for calibration, work in each)
        return ResourceLimits(time_limit(seconds, self.save_seconds), memory_limit(max(one.memory for one, _ in each)))

    def calibration_for(self, run: BatchRun) -> Calibration:
        """Return the calibration of the setup of a run, or the largest one of its configuration."""
        exact = next((one for one in self.calibrations if one.setup == make_setup_key(run)), None)
        return exact or max(
            self.calibrations, key=lambda one: (configuration_from_setup_key(one.setup) == run.configuration, one.size)
        )

    def work(self, run: BatchRun) -> RemainingWork:
        """Return the remaining work of a run."""
        return compute_remaining_work(self.batch, run, self.done.get(run.name, 0))

    def text(self, runs: Sequence[BatchRun], jobs: Sequence[ArrayJob]) -> str:
        """Return the calculation of the limits.

        Args:
            runs: submitted runs.
            jobs: array jobs with the limits of these runs.
        """
        lines = [
            self._describe_longest(one, [run for run in runs if self.calibration_for(run) is one])
            for one in self.calibrations
        ]
        setups = {make_setup_key(run): run.name for run in runs}
        measured = {one.setup for one in self.calibrations}
        if others := [name for setup, name in setups.items() if setup not in measured]:
            lines.append(f"not measured: {truncate_list(others)}; if they need more, pass --time and --mem")
        for job in jobs:
            count = pluralize(len(job.tasks), "task")
            names = truncate_list([run.name for task in job.tasks for run in task])
            lines.append(f"--time {job.request.time} --mem {job.request.memory}  for {count}: {names}")
        margin = f"{round(100 * (SAFETY_MARGIN - 1))} %"
        lines.append(
            f"(limits: time + {margin} + {self.save_seconds} s to save + 60 s; memory + {margin} + "
            f"{MEMORY_MARGIN_MB} MB; rounded up)"
        )
        return "\n".join(line for line in lines if line)

    def _describe_longest(self, calibration: Calibration, runs: Sequence[BatchRun]) -> str:
        works = [self.work(run) for run in runs]
        return calibration.text(max(works, key=calibration.estimate_seconds)) if works else ""


def time_limit(seconds: float, save_seconds: int) -> str:
    """Return the time limit for an estimated time, as hours:minutes:seconds.

    It is rounded up to two significant digits, so that runs of similar length share an array job.

    Args:
        seconds: estimated time.
        save_seconds: time reserved for saving before the limit.
    """
    # Clusters (SLURM) check time limits once a minute, and may send its signal up to a minute earlier.
    minutes = math.ceil((SAFETY_MARGIN * seconds + save_seconds + 60) / 60)
    step = 10 ** max(0, len(str(minutes)) - 2)
    return format_duration(60 * step * math.ceil(minutes / step))


def memory_limit(megabytes: float) -> str:
    """Return the memory limit for an estimated usage, in megabytes."""
    return f"{100 * math.ceil((SAFETY_MARGIN * megabytes + MEMORY_MARGIN_MB) / 100)}M"


@dataclass(frozen=True)
class _StoredCalibrations:
    """Contents of `calibrations.json`."""

    calibrations: tuple[Calibration, ...] = ()


CALIBRATIONS_FORMAT = FileFormat("calibrations.json", _StoredCalibrations)


def read_calibrations(batch: Batch) -> list[Calibration]:
    """Return the calibrations that are stored in a batch.

    Raises:
        UsageError: if the file is damaged; it names the key or the line.
    """
    file = _calibrations_path(batch)
    if not os.path.lexists(file):
        return []
    try:
        return list(CALIBRATIONS_FORMAT.read(file).calibrations)
    except UsageError as error:
        raise UsageError(f"{error}\nDelete this file to calibrate the runs again.") from error


def remove_calibrations(batch: Batch, configurations: Collection[str]) -> None:
    """Remove the calibrations of some configurations, because their code has changed."""
    kept = read_calibrations(batch)
    left = tuple(one for one in kept if configuration_from_setup_key(one.setup) not in configurations)
    if len(left) < len(kept):
        CALIBRATIONS_FORMAT.write(_calibrations_path(batch), _StoredCalibrations(left))


def _calibrations_path(batch: Batch) -> Path:
    return batch.path / "calibrations.json"


def estimate(
    batch: Batch, runs: Sequence[BatchRun], save_seconds: int, done: Mapping[str, int], again: bool = False
) -> Estimates:
    """Return estimates for runs; setups without a calibration are calibrated first.

    Args:
        batch: batch of the runs.
        runs: runs to estimate.
        save_seconds: time reserved for saving before the time limit.
        done: number of completed epochs of each run.
        again: ignore stored calibrations.

    Raises:
        UsageError: if a calibration fails, or the length of a run is unknown.
        Interrupted: after a signal; the interrupted calibration is not stored.
    """
    return Estimates(batch, calibrate_missing(batch, runs, again=again), save_seconds, done)


def calibrate_missing(
    batch: Batch, runs: Sequence[BatchRun], max_count: int = MAX_CALIBRATIONS, again: bool = False
) -> list[Calibration]:
    """Calibrate runs with setups that have no calibration; store and return all calibrations.

    Args:
        batch: batch of the runs.
        runs: runs to calibrate.
        max_count: maximum number of runs to calibrate.
        again: ignore stored calibrations.

    Raises:
        UsageError, Interrupted: see `estimate`.
    """
    kept = [] if again else read_calibrations(batch)
    with graceful_shutdown_signals() as interrupt:
        for run in choose_runs_to_calibrate(runs, kept)[:max_count]:
            kept.append(calibrate(batch, run, interrupt.check))
            CALIBRATIONS_FORMAT.write(_calibrations_path(batch), _StoredCalibrations(tuple(kept)))
    return kept


def choose_runs_to_calibrate(runs: Iterable[BatchRun], kept: Sequence[Calibration] = ()) -> list[BatchRun]:
    """Return the runs to calibrate: the largest of each configuration, then other setups by decreasing size.

    A configuration is not calibrated again, unless it has a larger run now; see `compute_size_score`.

    Args:
        runs: candidates.
        kept: existing calibrations.
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
