"""Status of a batch and progress of its runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import RunInfo
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun
from tfaip_like.experiments._status.run_log import JOB_LOG_PREFIX, last_error_message
from tfaip_like.experiments._status.run_state import ACTIVE_STATES, RunState, determine_state
from tfaip_like.experiments.launchers._launcher import JobStatus
from tfaip_like.experiments.launchers._recorded import check_health, poll_runs, resolve_tickets, submitted_runs
from tfaip_like.experiments.launchers._tickets import Ticket

STATES_FROM_FILES = "states are based on the files of the runs only"
RECENT_ROWS = 6
"""Number of last rows of the history between which the time per epoch is averaged."""


@dataclass(frozen=True)
class RunStatus:
    """State and progress of a run."""

    name: str
    state: str
    """One of `STATES`; `preempted` means stopped by the cluster and waiting to be resumed."""
    reason: str = ""
    """Why the run failed, or what it waits for."""
    epoch: int = 0
    """Number of completed epochs."""
    epochs: int = 0
    monitor: str = ""
    best: float | None = None
    """Best value of the monitor so far."""
    seconds_left: float | None = None
    node: str | None = None
    job: str | None = None
    """Job ID on the cluster, of the task for an array."""
    job_name: str | None = None
    log: str = ""


@dataclass(frozen=True)
class BatchStatus:
    """Status of the runs of a batch."""

    path: str
    description: str
    runs: list[RunStatus] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of runs in each state."""
    needs_scheduler: bool = False
    """Whether runs wait for the scheduler of a queue, which is not running."""
    problem: str = ""
    """Why the status is incomplete."""


def read_status(batch: Batch, index: BatchIndex | None = None) -> BatchStatus:
    """Return the status of a batch.

    Args:
        batch: batch to read.
        index: its index, if it has been read already.

    Raises:
        UsageError: if the index or a ticket is damaged.
    """
    tickets = resolve_tickets(batch)
    jobs = {run.name: job for run, job in poll_runs(submitted_runs(batch, tickets))}
    return make_status(batch, index or batch.read_index(), tickets, jobs)


def make_status(
    batch: Batch, index: BatchIndex, tickets: Mapping[str, Ticket], jobs: Mapping[str, JobStatus]
) -> BatchStatus:
    """Return the status of a batch.

    Args:
        batch: batch to read.
        index: its index.
        tickets: latest ticket of each submitted run.
        jobs: answers of the launchers, by the names of the runs.
    """
    runs = [_make_run_status(batch, run, tickets.get(run.name), jobs.get(run.name)) for run in index.runs]
    silent = dict.fromkeys(job.reason for job in jobs.values() if job.phase == "unknown")
    health = check_health(batch, tickets)
    problems = [*(f"{reason}: {STATES_FROM_FILES}" for reason in silent), *([health.problem] if health.problem else [])]
    return BatchStatus(
        path=str(batch.path),
        description=index.description,
        runs=runs,
        counts=dict(Counter(run.state for run in runs)),
        needs_scheduler=health.needs_restart,
        problem="; ".join(problems),
    )


def _make_run_status(batch: Batch, run: BatchRun, ticket: Ticket | None, job_status: JobStatus | None) -> RunStatus:
    problems = list[str]()
    reader = Run(batch.run_dir(run.name), problems)
    info = reader.info
    epoch, seconds = _read_progress(reader) if info else (0.0, None)
    try:
        state, reason, node = determine_state(batch, run.name, ticket, info, job_status)
    except UsageError as error:
        state, reason, node = RunState("failed", str(error))
    monitor, best = _read_best(reader, run.monitor, epoch) if epoch else (run.monitor, None)
    if problems and state == "new":
        state = "failed"
    reason = problems[0] if problems else reason
    if state == "failed" and not reason:
        reason = last_error_message(batch.log_path(run.name)) or "no error message found"
    if state == "stopped" and (error_message := last_error_message(batch.log_path(run.name))).startswith(
        JOB_LOG_PREFIX
    ):
        reason = error_message.removeprefix(JOB_LOG_PREFIX)
    job, job_name = _cluster_job(ticket, info, job_status)
    return RunStatus(
        name=run.name,
        state=state,
        reason=reason,
        epoch=int(epoch),
        epochs=run.epochs,
        monitor=monitor,
        best=best,
        seconds_left=seconds * max(0, run.epochs - epoch) if seconds is not None and state in ACTIVE_STATES else None,
        node=node,
        job=job,
        job_name=job_name,
        log=os.path.relpath(batch.log_path(run.name)),
    )


def _cluster_job(ticket: Ticket | None, info: RunInfo, job_status: JobStatus | None) -> tuple[str | None, str | None]:
    """Return the ID and the name of the job of a run on a cluster, including jobs that were submitted by hand."""
    resumed = info.get("resumed")
    latest = (resumed[-1] if resumed else info).get("cluster_job") or {}
    job = ticket.job if ticket is not None else latest.get("job")
    if latest.get("job") == job:  # the cluster reports the name of the last run of a task
        return job, latest.get("name")
    return job, job_status.name if job_status is not None else None


def _read_progress(run: Run) -> tuple[float, float | None]:
    """Return the completed epochs, with a fraction after a validation within an epoch, and the seconds per epoch."""
    recent = run.read_recent_history(RECENT_ROWS)
    if not recent:
        return 0.0, None
    # A row has the seconds since the one before it, which is the start of the run before the first row.
    is_complete = len(recent) < RECENT_ROWS
    rows = recent if is_complete else recent[1:]
    epochs = recent[-1]["epoch"] - (0.0 if is_complete else recent[0]["epoch"])
    return recent[-1]["epoch"], sum(row.get("seconds", 0.0) for row in rows) / epochs


def _read_best(run: Run, monitor: str, epoch: float) -> tuple[str, float | None]:
    """Return the monitor and its best value, from the summary of a finished run or from the best export."""
    best = run.summary.get("best") or {}
    monitor = best.get("monitor", monitor)
    is_current = (run.summary.get("last") or {}).get("epoch", epoch) == epoch  # not one from before a resume
    if "monitor" in best and is_current:
        return monitor, best.get("value")
    for name in (monitor, monitor.removeprefix("val_"), "loss"):
        if name in run.best_metrics:
            return name, run.best_metrics[name]
    return monitor, None


def select_unfinished(status: BatchStatus, names: Iterable[str]) -> list[str]:
    """Return those of the named runs that are neither done nor active."""
    states = {run.name: run.state for run in status.runs}
    return [name for name in names if states[name] not in (*ACTIVE_STATES, "done")]
