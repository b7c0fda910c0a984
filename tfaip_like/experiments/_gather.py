"""Collection of the best model of each expert of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfaip_like._runs.reader import read_run
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.inference._experts import gather_experts


def gather(batch: Batch, patterns: Sequence[str], target_dir: Path) -> dict[str, str]:
    """Copy the best export of each expert into a directory that `predict-scenario` takes.

    Selected runs without an expert are ignored.

    Args:
        batch: batch of the runs.
        patterns: names of runs or configurations; all runs if empty.
        target_dir: directory to create.

    Returns:
        The name of the best run of each expert.

    Raises:
        UsageError: if no selected run has an expert, a run is active, or an expert has no export.
    """
    selected = select_runs(batch.read_index(), patterns)
    runs = [run for run in selected if run.expert is not None]
    if not runs:
        raise UsageError(
            f"{batch.path}: runs without an expert: {truncate_list([run.name for run in selected]) or 'none'}; "
            "gather requires a plan with `experts`"
        )
    states = {run.name: run.state for run in read_status(batch).runs}
    active = [run.name for run in runs if states[run.name] in ACTIVE_STATES]
    if active:  # their exports may be replaced during the copy
        raise UsageError(f"{batch.path}: unfinished runs: {truncate_list(active)}; wait, or select other runs")
    best = {expert: _best_run(batch, [run for run in runs if run.expert == expert]) for expert in _expert_names(runs)}
    missing = [expert for expert, run in best.items() if run is None]
    if missing:
        raise UsageError(f"{batch.path}: no export found for expert {truncate_list(missing)}")
    names = {expert: run.name for expert, run in best.items() if run is not None}
    gather_experts({expert: batch.run_dir(name).best for expert, name in names.items()}, target_dir)
    return names


def _expert_names(runs: Sequence[BatchRun]) -> list[str]:
    return list(dict.fromkeys(run.expert for run in runs if run.expert is not None))


def _best_run(batch: Batch, runs: Sequence[BatchRun]) -> BatchRun | None:
    """Return the run with the best value; the first one if no run has a value, None if no run has an export."""
    ranking: list[tuple[float, int]] = []
    for index, run in enumerate(runs):
        folder = batch.run_dir(run.name)
        if folder.best.exists():
            best = read_run(folder.path).best
            value = best.value if best is not None and best.value is not None else None
            sign = -1.0 if best is not None and best.mode == "max" else 1.0
            ranking.append((float("inf") if value is None else sign * value, index))
    return runs[min(ranking)[1]] if ranking else None
