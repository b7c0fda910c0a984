"""State of a run, determined from its ticket, its files and its launcher."""

from __future__ import annotations

from typing import NamedTuple

from tfaip_like._runs.run_files import RunInfo
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._status.run_log import first_line
from tfaip_like.experiments.launchers._launcher import JobStatus
from tfaip_like.experiments.launchers._recorded import describe_failure, read_exit_code
from tfaip_like.experiments.launchers._tickets import Ticket

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


def determine_state(batch: Batch, name: str, ticket: Ticket | None, info: RunInfo, job: JobStatus | None) -> RunState:
    """Return the state of a run.

    Args:
        batch: batch of the run.
        name: name of the run.
        ticket: its latest ticket; None if it was never submitted.
        info: contents of its `run.json`; empty without this file.
        job: answer of its launcher; None if the job is not listed.

    Raises:
        UsageError: if the file with its exit code is damaged.
    """
    if ticket is None or ticket.state == "reset":
        return _state_from_info(batch, name, info)._replace(node=_last_node(info))
    code = read_exit_code(batch, ticket, name)
    has_started = batch.run_dir(name).has_run_since(ticket.submitted)
    info = info if has_started else {}  # otherwise it is that of an earlier submission
    node = _last_node(info)
    if job is not None and job.phase == "unknown":
        if code is None and not ticket.cancelled:
            status = info.get("status")
            return RunState({"stopped": "preempted", None: "waiting"}.get(status, str(status)), "", node)
        job = None
    elif ticket.submission is not None and ticket.job is None:
        return RunState("waiting", SUBMISSION_PENDING) if batch.is_locked() else RunState("new", SUBMISSION_INTERRUPTED)
    if job is not None and job.phase == "pending":
        if ticket.cancelled:  # perhaps a job of another user, which ends when it is started
            return RunState("cancelled")
        return RunState("preempted" if has_started else "waiting", job.reason)
    if job is not None and job.phase == "running":
        return RunState("running", "", job.node)
    return _ended_state(batch, code, ticket, info, job)._replace(node=node)


def _ended_state(batch: Batch, code: int | None, ticket: Ticket, info: RunInfo, job: JobStatus | None) -> RunState:
    ended = final_state(code, ticket, info)
    if job is not None and job.is_cancelled and ended.state != "done":
        return RunState("cancelled")
    if ended.state == "failed":
        reason = (job.reason if job is not None else "") or describe_failure(batch, ticket)
        return ended._replace(reason=reason or ended.reason)
    return ended


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
