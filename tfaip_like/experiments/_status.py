"""How far the runs of a batch are, from the files that they leave."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfaip_like._export.layout import read_metrics
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import RunInfo, RunSummary, parse_history, read_run_file
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_text
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun
from tfaip_like.experiments._launchers.local_queue import is_disk_full, is_run_alive, is_scheduler_running
from tfaip_like.experiments._launchers.slurm import (
    ClusterJob,
    query_arrays_by_script,
    query_cluster_jobs,
    read_exit_code,
    read_last_slurm_error,
)
from tfaip_like.experiments._launchers.submissions import read_submissions
from tfaip_like.experiments._launchers.tickets import Ticket, read_tickets

STATES = ("running", "waiting", "preempted", "new", "done", "stopped", "cancelled", "failed")
JOB_LOG_PREFIX = "job: "
"""Begins what a job script says in the log of its run."""
ACTIVE_STATES = ("running", "waiting", "preempted")
"""States of runs that somebody has in hand."""
CLUSTER_UNREACHABLE = "the cluster cannot be asked from here: this is what the runs themselves have left"
DISK_FULL = "the disk is full: runs wait for room"
SUBMISSION_PENDING = "it is being submitted"
SUBMISSION_INTERRUPTED = "its submission was interrupted, and the cluster does not have it: submit it again"
RECENT_EPOCHS = 5
"""Latest epochs from which the time of an epoch is estimated."""
_TAIL_BYTES = 4096
"""Bytes of a log that hold its last lines."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is."""

    name: str
    state: str
    """One of `STATES`; preempted was stopped by the cluster, and waits to go on."""
    reason: str = ""
    """Why it has failed, or what it waits for."""
    epoch: int = 0
    """Epochs that are done."""
    epochs: int = 0
    monitor: str = ""
    best: float | None = None
    """The best value so far of what is monitored."""
    seconds_left: float | None = None
    node: str | None = None
    job: str | None = None
    """Number of its job on the cluster, ARRAY_TASK."""
    job_name: str | None = None
    log: str = ""


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is."""

    path: str
    description: str
    runs: list[RunStatus] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Runs by state."""
    needs_scheduler: bool = False
    """Whether runs wait in a local queue that nobody works on."""
    problem: str = ""
    """Why not all is known."""


def read_status(batch: Batch, index: BatchIndex | None = None) -> BatchStatus:
    """Return how far a batch is."""
    tickets = resolve_tickets(batch)
    return make_status(batch, index or batch.read_index(), tickets, query_cluster_jobs(cluster_job_ids(tickets)))


def resolve_tickets(batch: Batch) -> dict[str, Ticket]:
    """Return the tickets of a batch; of an interrupted submission the cluster is asked what became of it."""
    tickets = read_tickets(batch)
    if all(ticket.job for ticket in tickets.values() if ticket.where == "slurm"):
        return tickets
    arrays = query_arrays_by_script() or {}
    for submission in read_submissions(batch):
        array = arrays.get(submission.record.script)
        if submission.array_job is None and array is not None:
            for name, job in submission.task_ids(array).items():
                if tickets[name].submission == submission.folder.name:
                    tickets[name] = tickets[name].replace(job=job)
    return tickets


def cluster_job_ids(tickets: Mapping[str, Ticket]) -> list[str]:
    """Return what a cluster calls the runs that it was given."""
    return [ticket.job for ticket in tickets.values() if ticket.where == "slurm" and ticket.job]


def make_status(
    batch: Batch, index: BatchIndex, tickets: Mapping[str, Ticket], jobs: Mapping[str, ClusterJob] | None
) -> BatchStatus:
    """How far a batch is, by its tickets and what the cluster knows of their jobs; None if it cannot be asked."""
    runs = [_make_run_status(batch, run, tickets.get(run.name), jobs) for run in index.runs]
    waits = any(ticket.is_in_local_queue for ticket in tickets.values())
    is_queued = any(ticket.where == "local" and ticket.is_queued for ticket in tickets.values())
    problems = [CLUSTER_UNREACHABLE] * (jobs is None) + [DISK_FULL] * (is_queued and is_disk_full(batch))
    return BatchStatus(
        path=str(batch.path),
        description=index.description,
        runs=runs,
        counts=dict(Counter(run.state for run in runs)),
        needs_scheduler=waits and not is_scheduler_running(batch),
        problem="; ".join(problems),
    )


def _make_run_status(
    batch: Batch, run: BatchRun, ticket: Ticket | None, jobs: Mapping[str, ClusterJob] | None
) -> RunStatus:
    folder = batch.run_dir(run.name)
    problems = list[str]()
    record: RunInfo = {}
    if ticket is not None or folder.path.exists():
        record = read_run_file(RunInfo, folder.run, problems)
    epoch, seconds = _read_progress(folder, problems) if record else (0, None)
    try:
        state, reason, node = _determine_state(batch, run, ticket, record, jobs)
    except UsageError as error:
        state, reason, node = "failed", str(error), None
    monitor, best = _read_best(folder, run.monitor, problems) if epoch else (run.monitor, None)
    if problems and state == "new":
        state = "failed"
    reason = problems[0] if problems else reason
    if state == "failed" and not reason:
        reason = last_error_message(batch.log_path(run.name)) or "it left no message"
    if state == "stopped" and (said := last_error_message(batch.log_path(run.name))).startswith(JOB_LOG_PREFIX):
        reason = said.removeprefix(JOB_LOG_PREFIX)
    left = seconds * max(0, run.epochs - epoch) if seconds is not None and state in ACTIVE_STATES else None
    log = os.path.relpath(batch.log_path(run.name))
    job, name = _cluster_job(ticket, record, jobs)
    return RunStatus(run.name, state, reason, epoch, run.epochs, monitor, best, left, node, job, name, log)


def _cluster_job(
    ticket: Ticket | None, record: RunInfo, jobs: Mapping[str, ClusterJob] | None
) -> tuple[str | None, str | None]:
    """Return number and name of the job of a run on the cluster, also of one that was started by hand."""
    resumed = record.get("resumed")
    latest = (resumed[-1] if resumed else record).get("slurm") or {}
    job = ticket.job if ticket is not None else latest.get("job")
    known = (jobs or {}).get(job or "")
    if latest.get("job") == job:  # the cluster calls it as the latest of the runs that it trains
        return job, latest.get("name")
    return job, known.name if known is not None else None


def _determine_state(
    batch: Batch,
    run: BatchRun,
    ticket: Ticket | None,
    record: RunInfo,
    jobs: Mapping[str, ClusterJob] | None,
) -> tuple[str, str, str | None]:
    """State, reason and node."""
    node = _last_node(record)
    if ticket is None or ticket.state == "reset":
        return (*_state_from_record(batch, run, record), node)
    if ticket.where == "local":
        if ticket.state == "waiting":
            return "cancelled" if ticket.cancelled else "waiting", "", None
        if ticket.state == "running" and is_run_alive(batch, run.name):
            return "running", "", ticket.host if ticket.gpu is None else f"{ticket.host}:gpu{ticket.gpu}"
        if ticket.code is None and not _has_run_since(batch.run_dir(run.name), ticket.submitted):
            return "failed", "killed before it began", node  # with its queue; the record is that of an earlier training
        return (*_final_state(ticket.code, ticket, record), node)
    return _determine_cluster_state(batch, run, ticket, record, jobs)


def _determine_cluster_state(
    batch: Batch, run: BatchRun, ticket: Ticket, record: RunInfo, jobs: Mapping[str, ClusterJob] | None
) -> tuple[str, str, str | None]:
    code, was_begun = read_exit_code(batch, ticket, run.name), _has_run_since(batch.run_dir(run.name), ticket.submitted)
    record = record if was_begun else {}  # or it is that of an earlier try
    node = _last_node(record)
    if jobs is None and code is None and not ticket.cancelled:
        return {"stopped": "preempted", None: "waiting"}.get(record.get("status"), str(record.get("status"))), "", node
    job = jobs.get(ticket.job or "") if jobs else None
    if ticket.job is None:
        return ("waiting", SUBMISSION_PENDING, None) if batch.is_locked() else ("new", SUBMISSION_INTERRUPTED, None)
    if job is not None and job.is_pending and ticket.cancelled:  # of somebody else: it ends when its turn comes
        return "cancelled", "", None
    if job is not None and job.is_pending:
        return "preempted" if was_begun else "waiting", job.unusual_pending_reason, None
    if job is not None and not job.is_finished:
        return "running", "", job.node
    state, reason = _final_state(code, ticket, record)
    if job is not None and job.state == "CANCELLED" and state != "done":
        return "cancelled", "", node
    if state == "failed":
        reason = (job.reason if job is not None else "") or read_last_slurm_error(batch, ticket.job or "") or reason
    return state, reason, node


def _has_run_since(folder: OutputDir, when: float) -> bool:
    """Return whether a run has been at work since a time; before, it may have been under another ticket."""
    return folder.run.exists() and folder.run.stat().st_mtime > when


def _state_from_record(batch: Batch, run: BatchRun, record: RunInfo) -> tuple[str, str]:
    """State of a run that was never submitted, but perhaps started by hand."""
    if not record:
        return "new", ""
    if record.get("status") == "running" and batch.run_dir(run.name).is_locked():
        return "running", ""
    return _final_state(None, None, record)


def _final_state(code: int | None, ticket: Ticket | None, record: RunInfo) -> tuple[str, str]:
    """State and reason of a run that is not at work any more."""
    status = record.get("status")
    if code == 0 and not record:  # somebody has removed what it left
        return "new", ""
    if code == 0 or (code is None and status == "done"):
        return "done", ""
    if ticket is not None and ticket.cancelled:
        return "cancelled", ""
    if code in (130, 143) or (code is None and status == "stopped"):
        return "stopped", ""
    if status == "failed":
        return "failed", _first_line(str(record.get("error", "")))
    if code is None or code < 0 or code > 128:
        number = f" by signal {-code if code < 0 else code - 128}" if code else ""
        return "failed", f"killed{number}" if status == "running" or number else ""
    return "failed", ""


def _last_node(record: RunInfo) -> str | None:
    resumed = record.get("resumed")
    return resumed[-1].get("host") if resumed else record.get("host")


def _read_progress(folder: OutputDir, problems: list[str]) -> tuple[int, float | None]:
    """Return the epochs that are done, and the seconds that one takes."""
    if not folder.history.exists() and not folder.history.is_symlink():
        return 0, None
    try:
        recent = parse_history(read_text(folder.history), str(folder.history), problems, last=RECENT_EPOCHS)
    except UsageError as error:
        problems.append(str(error))
        return 0, None
    seconds = [row["seconds"] for row in recent if "seconds" in row]
    epoch = int(recent[-1]["epoch"]) if recent else 0
    return epoch, sum(seconds) / len(seconds) if seconds else None


def _read_best(folder: OutputDir, monitor: str, problems: list[str]) -> tuple[str, float | None]:
    """Return what is monitored and its best value: of the summary at the end, of the best export before."""
    best = read_run_file(RunSummary, folder.summary, problems).get("best") or {}
    if "monitor" in best:
        return best["monitor"], best.get("value")
    try:
        metrics = read_metrics(folder.best)
    except UsageError as error:
        problems.append(str(error))
        return monitor, None
    for name in (monitor, monitor.removeprefix("val_"), "loss"):
        if name in metrics:
            return name, metrics[name]
    return monitor, None


def read_last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max(_TAIL_BYTES, 200 * count)))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.replace("\r", "\n").splitlines()[-count:]


def last_error_message(log: Path) -> str:
    """What a program said before it failed: `train-scenario: ...`, else its last line."""
    lines = [line for line in read_last_lines(log, 40) if line.strip()]
    said = [line for line in lines if line.startswith(("train-scenario: ", "resume-training: ", JOB_LOG_PREFIX))]
    return _first_line((said or lines or [""])[-1])


def _first_line(text: str) -> str:
    return text.split("\n")[0].strip()


def select_unfinished(status: BatchStatus, names: Iterable[str]) -> list[str]:
    """Those of the named runs that are neither done nor in hand."""
    states = {run.name: run.state for run in status.runs}
    return [name for name in names if states[name] not in (*ACTIVE_STATES, "done")]
