"""Whether a disk has room for what the runs of a batch leave, before they are submitted."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError, format_bytes, pluralize
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._resources.calibration import (
    Calibration,
    configuration_from_setup_key,
    get_int_parameter,
    get_text_parameter,
    make_setup_key,
    measure_dir_bytes,
)
from tfaip_like.experiments._resources.estimate import calibrate_missing, read_calibrations
from tfaip_like.experiments._status import BatchStatus

MIN_RUNS_TO_CALIBRATE = 10
"""Runs from which one is measured, where nothing is known of what they leave; fewer look for themselves."""


def check_disk_space(batch: Batch, runs: Sequence[BatchRun], status: BatchStatus, allow_calibration: bool) -> None:
    """Refuse runs for which there is no room on the disk.

    What a run leaves is known from finished ones of its configuration, or from a calibration.

    Args:
        allow_calibration: calibrate a run if nothing is known and there are many.

    Raises:
        UsageError: if not all of them fit; it says how much is missing.
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
                f"{folder}: {pluralize(len(runs), 'run')} will leave about {format_bytes(nbytes)} there, but only "
                f"{format_bytes(free)} are free on this disk;\nmake room, keep fewer checkpoints "
                "(--trainer.keep_checkpoints), or add --check_space false"
            )


@dataclass(frozen=True)
class _DiskUsage:
    """Bytes that a run leaves."""

    checkpoints: float
    rest: float


def _usage_of_finished_runs(batch: Batch, status: BatchStatus, runs: Sequence[BatchRun]) -> dict[str, _DiskUsage]:
    """Return what a finished run of each configuration has left."""
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
        print(f"cannot check the disk space that the runs need: {error}", file=sys.stderr)
        return []


def _bytes_needed(
    batch: Batch, run: BatchRun, finished: Mapping[str, _DiskUsage], calibrations: Sequence[Calibration]
) -> dict[Path, float]:
    """Return what a run will leave more than it has left already, by the folder of it; nothing if that is not known."""
    of_run = batch.run_dir(run.name)
    home = of_run.path.parent
    scratch = get_text_parameter(batch, run, "trainer", "checkpoint_dir")
    elsewhere = Path(batch.read_index().folder, scratch) if scratch else home
    whole = finished.get(run.configuration) or _estimate_usage(batch, run, calibrations)
    if whole is None:
        return {}
    now = _measure_usage(of_run)
    needed = {home: max(0, whole.rest - now.rest)}
    needed[elsewhere] = needed.get(elsewhere, 0) + max(0, whole.checkpoints - now.checkpoints)
    return {folder: nbytes for folder, nbytes in needed.items() if folder.is_dir()}


def _estimate_usage(batch: Batch, run: BatchRun, calibrations: Sequence[Calibration]) -> _DiskUsage | None:
    alike = [one for one in calibrations if one.setup == make_setup_key(run)]
    alike = alike or [one for one in calibrations if configuration_from_setup_key(one.setup) == run.configuration]
    if not (alike := alike or list(calibrations)):
        return None
    every = get_int_parameter(batch, run, "trainer", "keep_every_n")
    kept = run.epochs // every if every else 0
    max_count = 1 + (get_int_parameter(batch, run, "trainer", "keep_checkpoints") or 0) + kept
    return _DiskUsage(1e6 * max_count * max(one.checkpoint for one in alike), 1e6 * max(one.disk for one in alike))
