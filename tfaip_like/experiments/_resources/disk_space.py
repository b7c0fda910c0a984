"""Whether a disk has room for what the runs of a batch leave, before they are submitted."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError, counted, readable_bytes
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._resources.calibration import (
    Calibration,
    configuration_of,
    folder_bytes,
    parameter_of,
    setup_of,
    text_of,
)
from tfaip_like.experiments._resources.estimate import calibrate_missing, kept_calibrations
from tfaip_like.experiments._status import BatchStatus

MANY = 10
"""Runs from which one is measured, where nothing is known of what they leave; fewer look for themselves."""


def check_room(batch: Batch, runs: Sequence[BatchRun], status: BatchStatus, may_measure: bool) -> None:
    """Refuse runs for which there is no room on the disk.

    What a run leaves is known from finished ones of its configuration, or from a calibration.

    Args:
        may_measure: calibrate a run if nothing is known and there are many.

    Raises:
        UsageError: if not all of them fit; it says how much is missing.
    """
    finished = _left_by_finished(batch, status, runs)
    calibrations = kept_calibrations(batch)
    if may_measure and len(runs) > MANY and not finished and not calibrations:
        calibrations = _measured(batch, runs)
    needed: dict[Path, float] = {}
    for run in runs:
        for place, nbytes in _bytes_needed(batch, run, finished, calibrations).items():
            needed[place] = needed.get(place, 0) + nbytes
    for place, nbytes in needed.items():
        free = shutil.disk_usage(place).free
        if nbytes > free:
            raise UsageError(
                f"{place}: {counted(len(runs), 'run')} will leave about {readable_bytes(nbytes)} there, but only "
                f"{readable_bytes(free)} are free on this disk;\nmake room, keep fewer checkpoints "
                "(--trainer.keep_checkpoints), or add --check_space false"
            )


@dataclass(frozen=True)
class _Left:
    """Bytes that a run leaves."""

    checkpoints: float
    rest: float


def _left_by_finished(batch: Batch, status: BatchStatus, runs: Sequence[BatchRun]) -> dict[str, _Left]:
    """Return what a finished run of each configuration has left."""
    configurations = {run.name: run.configuration for run in batch.index().runs}
    wanted = {run.configuration for run in runs}
    found: dict[str, _Left] = {}
    for run in status.runs:
        configuration = configurations[run.name]
        if run.state == "done" and configuration in wanted and configuration not in found:
            found[configuration] = _left_by(batch.run(run.name))
    return found


def _left_by(folder: OutputDir) -> _Left:
    checkpoints = folder_bytes(folder.checkpoints.resolve())
    is_elsewhere = folder.checkpoints.is_symlink()
    return _Left(checkpoints, folder_bytes(folder.path) - (0 if is_elsewhere else checkpoints))


def _measured(batch: Batch, runs: Sequence[BatchRun]) -> list[Calibration]:
    try:
        return calibrate_missing(batch, runs, most=1)
    except UsageError as error:
        print(f"cannot check the disk space that the runs need: {error}", file=sys.stderr)
        return []


def _bytes_needed(
    batch: Batch, run: BatchRun, finished: Mapping[str, _Left], calibrations: Sequence[Calibration]
) -> dict[Path, float]:
    """Return what a run will leave more than it has left already, by the folder of it; nothing if that is not known."""
    of_run = batch.run(run.name)
    home = of_run.path.parent
    scratch = text_of(batch, run, "trainer", "checkpoint_dir")
    elsewhere = Path(batch.index().folder, scratch) if scratch else home
    whole = finished.get(run.configuration) or _left_by_calibrations(batch, run, calibrations)
    if whole is None:
        return {}
    now = _left_by(of_run)
    needed = {home: max(0, whole.rest - now.rest)}
    needed[elsewhere] = needed.get(elsewhere, 0) + max(0, whole.checkpoints - now.checkpoints)
    return {place: nbytes for place, nbytes in needed.items() if place.is_dir()}


def _left_by_calibrations(batch: Batch, run: BatchRun, calibrations: Sequence[Calibration]) -> _Left | None:
    alike = [one for one in calibrations if one.setup == setup_of(run)]
    alike = alike or [one for one in calibrations if configuration_of(one.setup) == run.configuration]
    if not (alike := alike or list(calibrations)):
        return None
    every = parameter_of(batch, run, "trainer", "keep_every_n")
    kept = run.epochs // every if every else 0
    most = 1 + (parameter_of(batch, run, "trainer", "keep_checkpoints") or 0) + kept
    return _Left(1e6 * most * max(one.checkpoint for one in alike), 1e6 * max(one.disk for one in alike))
