"""State of a run, determined from its ticket, its files and the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import RunInfo
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._launchers.local_queue import is_run_alive
from tfaip_like.experiments._launchers.slurm import ClusterJob, read_exit_code, read_last_slurm_error
from tfaip_like.experiments._launchers.tickets import Ticket
from tfaip_like.experiments._status.run_log import first_line

STATES = ("running", "waiting", "preempted", "new", "done", "stopped", "cancelled", "failed")
ACTIVE_STATES = ("running", "waiting", "preempted")
"""States of runs that are queued or running."""
SUBMISSION_PENDING = "submission in progress"
SUBMISSION_INTERRUPTED = "submission was interrupted and the cluster does not have the job; submit the run again"
INTERRUPT_EXIT_CODES = (130, 143)
"""Exit codes after SIGINT and SIGTERM."""


class RunState(NamedTuple):
    """State of a run, with the reason and the node if they are known."""

    state: str
    """One of `STATES`."""
    reason: str = ""
    node: str | None = None


def determine_state(
    batch: Batch, name: str, ticket: Ticket | None, info: RunInfo, jobs: Mapping[str, ClusterJob] | None
) -> RunState:
    """Return the state of a run.

    Args:
        batch: batch of the run.
        name: name of the run.
        ticket: its latest ticket; None if it was never submitted.
        info: contents of its `run.json`; empty without this file.
        jobs: jobs on the cluster; None if it could not be queried.

    Raises:
        UsageError: if the file with its exit code is damaged.
    """
    node = _last_node(info)
    if ticket is None or ticket.state == "reset":
        return _state_from_info(batch, name, info)._replace(node=node)
    if ticket.where == "slurm":
        return determine_cluster_state(batch, name, ticket, info, jobs)
    if ticket.state == "waiting":
        return RunState("cancelled" if ticket.cancelled else "waiting")
    if ticket.state == "running" and is_run_alive(batch, name):
        return RunState("running", "", ticket.host if ticket.gpu is None else f"{ticket.host}:gpu{ticket.gpu}")
    if ticket.code is None and not _has_run_since(batch.run_dir(name), ticket.submitted):
        # Killed together with the scheduler; `info` is that of an earlier start.
        return RunState("failed", "killed before the training started", node)
    return final_state(ticket.code, ticket, info)._replace(node=node)


def determine_cluster_state(
    batch: Batch, name: str, ticket: Ticket, info: RunInfo, jobs: Mapping[str, ClusterJob] | None
) -> RunState:
    """Return the state of a run that was submitted to the cluster; see `determine_state`."""
    code = read_exit_code(batch, ticket, name)
    has_started = _has_run_since(batch.run_dir(name), ticket.submitted)
    info = info if has_started else {}  # otherwise it is that of an earlier submission
    node = _last_node(info)
    if jobs is None and code is None and not ticket.cancelled:
        status = info.get("status")
        return RunState({"stopped": "preempted", None: "waiting"}.get(status, str(status)), "", node)
    if ticket.job is None:
        return RunState("waiting", SUBMISSION_PENDING) if batch.is_locked() else RunState("new", SUBMISSION_INTERRUPTED)
    job = jobs.get(ticket.job) if jobs else None
    if job is not None and job.is_pending and ticket.cancelled:  # a job of another user, which ends when it is started
        return RunState("cancelled")
    if job is not None and job.is_pending:
        return RunState("preempted" if has_started else "waiting", job.unusual_pending_reason)
    if job is not None and not job.is_finished:
        return RunState("running", "", job.node)
    ended = final_state(code, ticket, info)._replace(node=node)
    if job is not None and job.state == "CANCELLED" and ended.state != "done":
        return RunState("cancelled", "", node)
    if ended.state == "failed":
        reason = (job.reason if job is not None else "") or read_last_slurm_error(batch, ticket.job)
        return ended._replace(reason=reason or ended.reason)
    return ended


def _has_run_since(folder: OutputDir, timestamp: float) -> bool:
    """Return whether `run.json` was written after a time; earlier versions belong to an earlier submission."""
    return folder.run.exists() and folder.run.stat().st_mtime > timestamp


def _state_from_info(batch: Batch, name: str, info: RunInfo) -> RunState:
    """Return the state of a run that was not submitted, but may have been started by hand."""
    if not info:
        return RunState("new")
    if info.get("status") == "running" and batch.run_dir(name).is_locked():
        return RunState("running")
    return final_state(None, None, info)


def final_state(code: int | None, ticket: Ticket | None, info: RunInfo) -> RunState:
    """Return the state of a run whose process has ended.

    Args:
        code: exit code; None if unknown.
        ticket: latest ticket; None if the run was never submitted.
        info: contents of `run.json`.
    """
    status = info.get("status")
    if code == 0 and not info:  # its run directory was deleted
        return RunState("new")
    if code == 0 or (code is None and status == "done"):
        return RunState("done")
    if ticket is not None and ticket.cancelled:
        return RunState("cancelled")
    if code in INTERRUPT_EXIT_CODES or (code is None and status == "stopped"):
        return RunState("stopped")
    if status == "failed":
        return RunState("failed", first_line(str(info.get("error", ""))))
    if code is None or code < 0 or code > 128:
        signal = f" by signal {-code if code < 0 else code - 128}" if code else ""
        return RunState("failed", f"killed{signal}" if status == "running" or signal else "")
    return RunState("failed")


def _last_node(info: RunInfo) -> str | None:
    resumed = info.get("resumed")
    return resumed[-1].get("host") if resumed else info.get("host")
