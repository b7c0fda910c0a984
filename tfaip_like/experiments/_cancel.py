"""Cancellation of queued and running runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._launchers.local_queue import start_scheduler
from tfaip_like.experiments._launchers.slurm import cancel_jobs
from tfaip_like.experiments._launchers.submissions import Submission, read_submissions
from tfaip_like.experiments._launchers.tickets import Ticket, cancel_marker_path
from tfaip_like.experiments._status.batch_status import read_status, resolve_tickets
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments._submit import require_trusted_batch


@dataclass(frozen=True)
class CancelResult:
    """Result of a cancellation."""

    runs: list[BatchRun]
    """Cancelled runs."""
    problem: str = ""
    """Error message of the cluster, if it rejected the request; its runs then detect the cancellation themselves."""


def cancel(batch: Batch, patterns: Sequence[str], trust_code: bool = False) -> CancelResult:
    """Cancel queued and running runs; running ones save their state and exit.

    Each run is marked with an empty file, which needs no disk space, and also stops jobs of other users, who alone may
    cancel them with scancel.

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
        submissions = {submission.folder.name: submission for submission in read_submissions(batch)}
        try:
            for run in runs:
                _mark_cancelled(batch, run.name, tickets[run.name], submissions)
        finally:  # even if a marker could not be written
            problem = cancel_jobs(_jobs_to_cancel([run.name for run in runs], tickets, submissions))
    if any(states[run.name] == "running" and tickets[run.name].where == "local" for run in runs):
        start_scheduler(batch)  # for runs whose scheduler was killed
    return CancelResult(runs, problem)


def _mark_cancelled(batch: Batch, name: str, ticket: Ticket, submissions: Mapping[str, Submission]) -> None:
    if ticket.submission is None:
        cancel_marker_path(batch, name).touch()
    else:
        submissions[ticket.submission].mark_cancelled(name)


def _jobs_to_cancel(
    names: Sequence[str], tickets: Mapping[str, Ticket], submissions: Mapping[str, Submission]
) -> Iterator[str]:
    """Yield the jobs of tasks whose runs are all cancelled or ended; the array if this holds for all of its tasks."""
    for submission in submissions.values():
        requested = {name for name in names if tickets[name].submission == submission.folder.name}
        ended = {*requested, *submission.cancelled_runs(), *submission.ended_runs()}
        tasks = [runs for runs in submission.record.tasks if requested.intersection(runs) and ended.issuperset(runs)]
        jobs = [job for runs in tasks if (job := tickets[runs[0]].job) is not None]
        if ended.issuperset(name for runs in submission.record.tasks for name in runs):
            jobs = list(dict.fromkeys(job.partition("_")[0] for job in jobs))
        yield from jobs
