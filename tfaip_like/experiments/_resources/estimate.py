"""What the runs of a batch will take, calculated from calibrations, which are kept in the batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfaip_like._utils.errors import UsageError, counted, some
from tfaip_like._utils.interruption import catch_interrupts
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.records import read_record
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._launchers.array_jobs import ArrayJob, Limits, Task
from tfaip_like.experiments._resources.calibration import (
    Calibration,
    Work,
    calibrate,
    configuration_of,
    duration,
    setup_of,
    size_of,
    work_of,
)

MARGIN = 1.3
MORE_MB = 200
MOST = 3
"""Runs that are calibrated by one submission, each of another set-up."""


@dataclass(frozen=True)
class Estimates:
    """What the runs of a batch will take, by the calibrations of some of them."""

    batch: Batch
    calibrations: Sequence[Calibration]
    save_seconds: int
    done: Mapping[str, int] = field(default_factory=dict)
    """Epochs that runs have done already."""

    def limits(self, task: Task) -> Limits:
        """Return the limits of a task, whose runs are trained one after another."""
        each = [(self.of(run), self.work(run)) for run in task]
        seconds = sum(calibration.seconds(work) for calibration, work in each)
        return Limits(time_limit(seconds, self.save_seconds), memory_limit(max(one.memory for one, _ in each)))

    def of(self, run: BatchRun) -> Calibration:
        """Return the calibration of the set-up of a run, or the largest one of its configuration."""
        own = next((one for one in self.calibrations if one.setup == setup_of(run)), None)
        return own or max(
            self.calibrations, key=lambda one: (configuration_of(one.setup) == run.configuration, one.size)
        )

    def work(self, run: BatchRun) -> Work:
        """Return what is left to do of a run."""
        return work_of(self.batch, run, self.done.get(run.name, 0))

    def text(self, runs: Sequence[BatchRun], jobs: Sequence[ArrayJob]) -> str:
        """Return the calculation, for the person who submits."""
        lines = [self._longest(one, [run for run in runs if self.of(run) is one]) for one in self.calibrations]
        setups = {setup_of(run): run.name for run in runs}
        measured = {one.setup for one in self.calibrations}
        if others := [name for setup, name in setups.items() if setup not in measured]:
            lines.append(f"not measured: {some(others)}; where they take more, give --time and --mem")
        for job in jobs:
            count = counted(len(job.tasks), "task")
            names = some([run.name for task in job.tasks for run in task])
            lines.append(f"--time {job.request.time} --mem {job.request.memory}  for {count}: {names}")
        margin = f"{round(100 * (MARGIN - 1))} %"
        lines.append(
            f"(the time and {margin}, {self.save_seconds} s to save and a minute; the memory and {margin} and "
            f"{MORE_MB} MB; rounded up)"
        )
        return "\n".join(line for line in lines if line)

    def _longest(self, calibration: Calibration, runs: Sequence[BatchRun]) -> str:
        works = [self.work(run) for run in runs]
        return calibration.text(max(works, key=calibration.seconds)) if works else ""


def time_limit(seconds: float, save_seconds: int) -> str:
    """Return the time limit for what takes some seconds, as SLURM writes it; of two digits, so that few differ."""
    # A cluster looks at time limits once a minute, and may send its signal so much earlier.
    minutes = math.ceil((MARGIN * seconds + save_seconds + 60) / 60)
    step = 10 ** max(0, len(str(minutes)) - 2)
    return duration(60 * step * math.ceil(minutes / step))


def memory_limit(megabytes: float) -> str:
    """Return the memory for what takes some megabytes, as SLURM writes it."""
    return f"{100 * math.ceil((MARGIN * megabytes + MORE_MB) / 100)}M"


@dataclass(frozen=True)
class _Kept:
    """What `calibrations.json` holds."""

    calibrations: tuple[Calibration, ...] = ()


def kept_calibrations(batch: Batch) -> list[Calibration]:
    """Return the calibrations that earlier submissions have left.

    Raises:
        UsageError: if the file is damaged; it names the key or line.
    """
    file = _file(batch)
    if not file.exists() and not file.is_symlink():
        return []
    try:
        return list(read_record(_Kept, file).calibrations)
    except UsageError as error:
        raise UsageError(f"{error}\nDelete this file to measure the runs again.") from error


def forget_calibrations(batch: Batch, configurations: Collection[str]) -> None:
    """Let runs of some configurations be measured again: their code has changed."""
    kept = kept_calibrations(batch)
    left = tuple(one for one in kept if configuration_of(one.setup) not in configurations)
    if len(left) < len(kept):
        write_json(_file(batch), dataclasses.asdict(_Kept(left)))


def _file(batch: Batch) -> Path:
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
    batch: Batch, runs: Sequence[BatchRun], most: int = MOST, again: bool = False
) -> list[Calibration]:
    """Calibrate runs of set-ups that were not measured before; return what is known then, which is kept.

    Args:
        most: runs that are measured.
        again: forget what was measured before.

    Raises:
        UsageError, Interrupted: see `estimate`.
    """
    kept = [] if again else kept_calibrations(batch)
    with catch_interrupts() as interrupt:
        for run in choose(runs, kept)[:most]:
            kept.append(calibrate(batch, run, interrupt.check))
            write_json(_file(batch), dataclasses.asdict(_Kept(tuple(kept))))
    return kept


def choose(runs: Iterable[BatchRun], kept: Sequence[Calibration] = ()) -> list[BatchRun]:
    """Return the runs to measure: the largest of each configuration, then other set-ups, the largest first.

    Large is what was given large whole numbers: units, layers, files. A configuration is not measured again, unless
    it has a larger run now.
    """
    by_size = sorted(runs, key=lambda run: (size_of(run), run.epochs), reverse=True)
    known = {configuration_of(one.setup): one.size for one in sorted(kept, key=lambda one: one.size)}
    largest: dict[str, BatchRun] = {}
    setups: dict[str, BatchRun] = {}
    for run in by_size:
        if size_of(run) > known.get(run.configuration, -1):
            largest.setdefault(run.configuration, run)
        if run.configuration not in known:
            setups.setdefault(setup_of(run), run)
    order = [*largest.values(), *setups.values()]
    unique: dict[str, BatchRun] = {}
    for run in order:
        unique.setdefault(setup_of(run), run)
    return list(unique.values())[:MOST]
