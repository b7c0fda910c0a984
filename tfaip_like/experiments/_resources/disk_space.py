"""Check of the disk space that runs will need, before they are submitted."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.retention import Retention
from tfaip_like._utils.errors import UsageError, format_bytes, pluralize
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._resources.calibration import (
    Calibration,
    configuration_from_setup_key,
    get_int_parameter,
    get_parameter,
    get_text_parameter,
    make_setup_key,
    measure_dir_bytes,
)
from tfaip_like.experiments._resources.estimate import calibrate_missing, read_calibrations
from tfaip_like.experiments._status.batch_status import BatchStatus

MIN_RUNS_TO_CALIBRATE = 10
"""One run is calibrated if more runs than this are submitted and no measurement exists."""


def check_disk_space(batch: Batch, runs: Sequence[BatchRun], status: BatchStatus, allow_calibration: bool) -> None:
    """Raise an error if the disk has too little free space for the results of runs.

    The size of the results is measured on finished runs of the same configuration, or taken from a calibration.

    Args:
        batch: batch of the runs.
        runs: runs to submit.
        status: status of the batch.
        allow_calibration: calibrate a run if there are more than `MIN_RUNS_TO_CALIBRATE` and no measurement exists.

    Raises:
        UsageError: if the space is too small; it names the required and the free space.
    """
    finished = _usage_of_finished_runs(batch, status, runs)
    calibrations = read_calibrations(batch)
    if allow_calibration and len(runs) > MIN_RUNS_TO_CALIBRATE and not finished and not calibrations:
        calibrations = _calibrate_one(batch, runs)
    needed: dict[Path, float] = {}
    for run in runs:
        for folder, nbytes in _bytes_needed(batch, run, finished, calibrations).items():
            needed[folder] = needed.get(folder, 0) + nbytes
    for folder, nbytes in needed.items():
        free = shutil.disk_usage(folder).free
        if nbytes > free:
            raise UsageError(
                f"{folder}: not enough disk space: {pluralize(len(runs), 'run')} will need about "
                f"{format_bytes(nbytes)}, {format_bytes(free)} free;\nfree up space, keep fewer checkpoints "
                "(--trainer.keep_checkpoints), or pass --check_space false"
            )


@dataclass(frozen=True)
class _DiskUsage:
    """Disk usage of a run, in bytes."""

    checkpoints: float
    rest: float


def _usage_of_finished_runs(batch: Batch, status: BatchStatus, runs: Sequence[BatchRun]) -> dict[str, _DiskUsage]:
    """Return the disk usage of a finished run of each configuration."""
    configurations = {run.name: run.configuration for run in batch.read_index().runs}
    wanted = {run.configuration for run in runs}
    found: dict[str, _DiskUsage] = {}
    for run in status.runs:
        configuration = configurations[run.name]
        if run.state == "done" and configuration in wanted and configuration not in found:
            found[configuration] = _measure_usage(batch.run_dir(run.name))
    return found


def _measure_usage(folder: OutputDir) -> _DiskUsage:
    checkpoints = measure_dir_bytes(folder.checkpoints.resolve())
    is_elsewhere = folder.checkpoints.is_symlink()
    return _DiskUsage(checkpoints, measure_dir_bytes(folder.path) - (0 if is_elsewhere else checkpoints))


def _calibrate_one(batch: Batch, runs: Sequence[BatchRun]) -> list[Calibration]:
    try:
        return calibrate_missing(batch, runs, max_count=1)
    except UsageError as error:
        print(f"Cannot check the required disk space: {error}", file=sys.stderr)
        return []


def _bytes_needed(
    batch: Batch, run: BatchRun, finished: Mapping[str, _DiskUsage], calibrations: Sequence[Calibration]
) -> dict[Path, float]:
    """Return the additional bytes that a run will need, by directory; empty if they are unknown."""
    run_dir = batch.run_dir(run.name)
    runs_dir = run_dir.path.parent
    scratch = get_text_parameter(batch, run, "trainer", "checkpoint_dir")
    checkpoint_dir = Path(batch.read_index().folder, scratch) if scratch else runs_dir
    expected = finished.get(run.configuration) or _estimate_usage(batch, run, calibrations)
    if expected is None:
        return {}
    current = _measure_usage(run_dir)
    needed = {runs_dir: max(0, expected.rest - current.rest)}
    needed[checkpoint_dir] = needed.get(checkpoint_dir, 0) + max(0, expected.checkpoints - current.checkpoints)
    return {folder: nbytes for folder, nbytes in needed.items() if folder.is_dir()}


def _estimate_usage(batch: Batch, run: BatchRun, calibrations: Sequence[Calibration]) -> _DiskUsage | None:
    similar = [one for one in calibrations if one.setup == make_setup_key(run)]
    similar = similar or [one for one in calibrations if configuration_from_setup_key(one.setup) == run.configuration]
    if not (similar := similar or list(calibrations)):
        return None
    max_count = _read_retention(batch, run).max_count(run.epochs)
    return _DiskUsage(1e6 * max_count * max(one.checkpoint for one in similar), 1e6 * max(one.disk for one in similar))


def _read_retention(batch: Batch, run: BatchRun) -> Retention:
    counts = {
        name: get_int_parameter(batch, run, "trainer", name) or 0
        for name in ("keep_checkpoints", "keep_every_n", "keep_best")
    }
    epochs = get_parameter(batch, run, "trainer", "keep_epochs")
    known = [epoch for epoch in epochs if isinstance(epoch, int)] if isinstance(epochs, list) else []
    return Retention(**counts, keep_epochs=known)
