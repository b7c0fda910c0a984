"""Cancellation of queued and running runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments._submit import require_trusted_batch
from tfaip_like.experiments.launchers._recorded import group_by_launcher, resolve_tickets


@dataclass(frozen=True)
class CancelResult:
    """Result of a cancellation."""

    runs: list[BatchRun]
    """Cancelled runs."""
    problem: str = ""
    """Error message of the cluster, if it rejected the request; its runs then detect the cancellation themselves."""


def cancel(batch: Batch, patterns: Sequence[str], trust_code: bool = False) -> CancelResult:
    """Cancel queued and running runs; running ones save their state and exit.

    Each run is marked with an empty file, which needs no disk space, and also stops jobs of other users, which the
    cluster may not let us cancel.

    Args:
        batch: batch of the runs.
        patterns: names of runs or configurations; all runs if empty.
        trust_code: see `require_trusted_batch`.

    Raises:
        UsageError: if a pattern matches no run, or the batch is damaged.
        UntrustedCodeError: for a batch of another user.
    """
    require_trusted_batch(batch, trust_code)  # its files determine which processes and jobs are stopped
    with batch.lock():
        index = batch.read_index()
        states = {run.name: run.state for run in read_status(batch, index).runs}
        tickets = resolve_tickets(batch)
        active = [run for run in select_runs(index, patterns) if states[run.name] in ACTIVE_STATES]
        runs = [run for run in active if run.name in tickets]  # others were started by hand
        chosen = {run.name: tickets[run.name] for run in runs}
        problems = [launcher.cancel(batch, members) for launcher, members in group_by_launcher(chosen)]
    return CancelResult(runs, "; ".join(filter(None, problems)))
