"""Reset of runs, to train them from scratch."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._epoch_extension import remove_extension
from tfaip_like.experiments._resources.calibration import get_int_parameter
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments.launchers._recorded import resolve_interrupted_submissions
from tfaip_like.experiments.launchers._tickets import cancel_marker_path, make_reset_ticket, write_ticket


def reset(batch: Batch, patterns: Sequence[str], delete: bool = False) -> list[BatchRun]:
    """Reset runs to the state `new`; their results are moved to `reset/` of the batch.

    Args:
        batch: batch of the runs.
        patterns: names of runs or configurations, at least one.
        delete: delete the results instead of moving them.

    Returns:
        The runs that were reset.

    Raises:
        UsageError: if a run is active, or a pattern matches no run.
    """
    if not patterns:
        raise UsageError("missing argument RUN. usage: experiments reset BATCH RUN ... ('*' for all)")
    with batch.lock():
        resolve_interrupted_submissions(batch)
        index = batch.read_index()
        states = {run.name: run.state for run in read_status(batch, index).runs}
        runs = [run for run in select_runs(index, patterns) if states[run.name] != "new"]
        if busy := [
            run.name for run in runs if states[run.name] in ACTIVE_STATES or batch.run_dir(run.name).is_locked()
        ]:
            raise UsageError(f"{batch.path}: active runs: {truncate_list(busy)}; stop them with `experiments cancel`")
        planned = {run.name: dataclasses.replace(run, epochs=_planned_epochs(batch, run)) for run in runs}
        all_runs = tuple(planned.get(run.name, run) for run in index.runs)
        for run in runs:  # write first, so that nothing is moved on a full disk
            write_ticket(batch, run.name, make_reset_ticket())
        batch.write_index(dataclasses.replace(index, runs=all_runs))
        for run in runs:
            for path in (batch.run_dir(run.name).path, batch.log_path(run.name)):
                _archive_or_delete(batch, path, delete)
            remove_extension(batch, run.name)
            cancel_marker_path(batch, run.name).unlink(missing_ok=True)
    return runs


def _planned_epochs(batch: Batch, run: BatchRun) -> int:
    return get_int_parameter(batch, run, "trainer", "epochs") or run.epochs


def _archive_or_delete(batch: Batch, path: Path, delete: bool) -> None:
    if not path.exists():
        return
    if delete:
        checkpoints = OutputDir(path).checkpoints
        if checkpoints.is_symlink():  # --trainer.checkpoint_dir
            shutil.rmtree(checkpoints.resolve(), ignore_errors=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    number = 1
    while (target := batch.path / "reset" / str(number) / path.parent.name / path.name).exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
