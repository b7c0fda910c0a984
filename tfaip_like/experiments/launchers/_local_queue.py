"""Local queue: runs train on this machine, a limited number in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._resources.machine import check_gpus, make_jobs_warning
from tfaip_like.experiments.launchers._jobs import ArrayJob, ResourceRequest
from tfaip_like.experiments.launchers._launcher import JobStatus, Launcher, PreparedJob, QueueHealth, SubmittedRun
from tfaip_like.experiments.launchers._local_scheduler import (
    QueueSettings,
    is_disk_full,
    is_run_alive,
    is_scheduler_running,
    start_scheduler,
)
from tfaip_like.experiments.launchers._tickets import Ticket, cancel_marker_path, make_ticket, write_ticket

DISK_FULL = "disk full: runs wait until space is available"
KILLED_EARLY = "killed before the training started"


class LocalQueue(Launcher):
    """Queue of this machine; a detached process starts its runs, so it needs no open terminal."""

    title: ClassVar[str] = "local queue"
    poll_interval_s: ClassVar[float] = 0.5

    def require_available(self, request: ResourceRequest) -> None:
        check_gpus(request.gpus)

    def default_jobs(self, request: ResourceRequest) -> int:
        return max(1, len(request.gpus))

    def max_tasks(self) -> int | None:
        return None

    def configure(self, batch: Batch, request: ResourceRequest) -> None:
        if request.jobs is not None or request.gpus or not is_scheduler_running(batch):
            QueueSettings(_num_parallel_runs(request), request.gpus).write(batch)

    def prepare(self, batch: Batch, job: ArrayJob) -> PreparedJob:
        for name in (name for names in job.run_names() for name in names):
            write_ticket(batch, name, make_ticket())
            cancel_marker_path(batch, name).unlink(missing_ok=True)  # last: on a full disk it stays cancelled
        return PreparedJob(batch, job)

    def submit(self, prepared: PreparedJob, lock: int) -> str:
        start_scheduler(prepared.batch)  # waits for the lock
        return ""

    def advise(self, request: ResourceRequest, num_runs: int) -> str:
        return make_jobs_warning(min(_num_parallel_runs(request), num_runs)) or ""

    def poll(self, runs: Sequence[SubmittedRun]) -> list[JobStatus | None]:
        return [_job_status(run) for run in runs]

    def cancel(self, batch: Batch, tickets: Mapping[str, Ticket]) -> str:
        for name in tickets:
            cancel_marker_path(batch, name).touch()
        if any(ticket.state == "running" for ticket in tickets.values()):
            start_scheduler(batch)  # for runs whose scheduler was killed
        return ""

    def check_health(self, batch: Batch, tickets: Mapping[str, Ticket]) -> QueueHealth:
        is_queued = any(ticket.is_queued for ticket in tickets.values())
        has_work = is_queued or any(ticket.state == "running" for ticket in tickets.values())
        return QueueHealth(
            needs_restart=has_work and not is_scheduler_running(batch),
            problem=DISK_FULL if is_queued and is_disk_full(batch) else "",
        )

    def restart(self, batch: Batch) -> None:
        start_scheduler(batch)


def _num_parallel_runs(request: ResourceRequest) -> int:
    return request.jobs or len(request.gpus) or request.default_jobs or 1


def _job_status(run: SubmittedRun) -> JobStatus:
    ticket = run.ticket
    if ticket.state == "waiting":
        return JobStatus("pending")
    if ticket.state == "running" and is_run_alive(run.batch, run.name):
        return JobStatus("running", ticket.host if ticket.gpu is None else f"{ticket.host}:gpu{ticket.gpu}")
    # Killed together with the scheduler; a run.json is that of an earlier start.
    is_killed_early = ticket.code is None and not run.batch.run_dir(run.name).has_run_since(ticket.submitted)
    return JobStatus("ended", reason=KILLED_EARLY if is_killed_early else "")
