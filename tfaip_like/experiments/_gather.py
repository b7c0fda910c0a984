"""The best network of each expert of a batch, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfaip_like._runs.reader import read_run
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._status import ACTIVE_STATES, read_status
from tfaip_like.inference._experts import gather_experts


def gather(batch: Batch, patterns: Sequence[str], place: Path) -> dict[str, str]:
    """Copies the best export of each expert into a folder that `predict-scenario` takes.

    Chosen runs that are for no expert are left out.

    Returns:
        The run that each expert comes from.

    Raises:
        UsageError: when no chosen run is for an expert, or an expert has no run with an export yet.
    """
    chosen = select_runs(batch.read_index(), patterns)
    runs = [run for run in chosen if run.expert is not None]
    if not runs:
        raise UsageError(
            f"{batch.path}: these runs have no expert: {truncate_list([run.name for run in chosen]) or 'none'}; "
            "gather needs a plan with `experts`"
        )
    states = {run.name: run.state for run in read_status(batch).runs}
    active = [run.name for run in runs if states[run.name] in ACTIVE_STATES]
    if active:  # its best network may be replaced while it is copied
        raise UsageError(
            f"{batch.path}: these runs are not done yet: {truncate_list(active)}; wait, or choose other runs"
        )
    best = {expert: _best_run(batch, [run for run in runs if run.expert == expert]) for expert in _expert_names(runs)}
    missing = [expert for expert, run in best.items() if run is None]
    if missing:
        raise UsageError(f"{batch.path}: no run of the expert {truncate_list(missing)} has an export yet")
    names = {expert: run.name for expert, run in best.items() if run is not None}
    gather_experts({expert: batch.run_dir(name).best for expert, name in names.items()}, place)
    return names


def _expert_names(runs: Sequence[BatchRun]) -> list[str]:
    return list(dict.fromkeys(run.expert for run in runs if run.expert is not None))


def _best_run(batch: Batch, runs: Sequence[BatchRun]) -> BatchRun | None:
    """The run with the best value; the first of those that have none."""
    rated: list[tuple[float, int]] = []
    for place, run in enumerate(runs):
        folder = batch.run_dir(run.name)
        if folder.best.exists():
            best = read_run(folder.path).best
            value = best.value if best is not None and best.value is not None else None
            sign = -1.0 if best is not None and best.mode == "max" else 1.0
            rated.append((float("inf") if value is None else sign * value, place))
    return runs[min(rated)[1]] if rated else None
