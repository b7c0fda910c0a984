"""Queue state: a ticket for each submitted run, as a JSON file (local queue) or from a submission (cluster)."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.typed_json import Count, Seconds
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._submissions import NO_ARRAY_JOB, Submission, read_submissions

LOCAL_QUEUE: Mapping[str, Json] = {"class": "tfaip_like.experiments.launchers:LocalQueue"}
"""Launcher of the tickets that are files."""

CANCEL_SUFFIX = ".cancel"
"""Suffix of the empty file that cancels a run of the local queue; it can be created on a full disk too."""


@dataclass(frozen=True)
class Ticket:
    """State of a submitted run."""

    state: Literal["waiting", "running", "ended", "reset"]
    """State in the local queue. On a cluster always `waiting`: the cluster and the files of the run give the state.
    `reset`: a new run, whose earlier tickets are ignored."""
    launcher: Mapping[str, Json] = field(default_factory=lambda: dict(LOCAL_QUEUE))
    """Launcher with its parameters, see `load_launcher`."""
    submitted: Seconds = 0.0
    started: Seconds | None = None
    ended: Seconds | None = None
    code: int | None = None
    """Exit code, if known."""
    cancelled: bool = False
    """Whether the run was cancelled."""
    host: str | None = None
    pid: Count | None = None
    gpu: Count | None = None
    job: str | None = None
    """Job ID of the task on a cluster; None until it is known."""
    array: str | None = None
    """Job ID of the array it belongs to."""
    submission: str | None = None
    """Directory name of the submission to a cluster."""

    @property
    def is_queued(self) -> bool:
        """Return whether the run waits to be started."""
        return self.state == "waiting" and not self.cancelled

    def replace(self, **changes: Any) -> Ticket:
        """Return the ticket with changes."""
        return dataclasses.replace(self, **changes)


TICKET_FORMAT = FileFormat("ticket", Ticket)


def make_ticket() -> Ticket:
    """Return the ticket of a run that is submitted to the local queue now."""
    return Ticket("waiting", submitted=time.time())


def make_reset_ticket() -> Ticket:
    """Return the ticket of a run that is reset now."""
    return Ticket("reset", submitted=time.time())


def read_tickets(batch: Batch) -> dict[str, Ticket]:
    """Return the latest ticket of each run of a batch, by the name of the run.

    Raises:
        UsageError: if one is damaged; it names the file and the key or line.
    """
    tickets = read_local_tickets(batch)
    for submission in read_submissions(batch):
        for name, ticket in iter_cluster_tickets(submission):
            if name not in tickets or tickets[name].submitted <= ticket.submitted:
                tickets[name] = ticket
    return tickets


def read_local_tickets(batch: Batch) -> dict[str, Ticket]:
    """Return the tickets of the local queue, by the name of the run.

    Raises:
        UsageError: if one is damaged; it names the file and the key or line.
    """
    cancelled = {path.name.removesuffix(CANCEL_SUFFIX) for path in batch.queue_dir.glob(f"*{CANCEL_SUFFIX}")}
    tickets = {}
    for path in batch.queue_dir.glob("*.json"):
        try:
            ticket = TICKET_FORMAT.read(path)
            tickets[path.stem] = ticket.replace(cancelled=ticket.cancelled or path.stem in cancelled)
        except UsageError as error:
            if not os.path.lexists(path):  # removed in the meantime
                continue
            raise UsageError(f"{error}\nDelete this file to mark its run as not submitted.") from error
    return tickets


def iter_cluster_tickets(submission: Submission) -> Iterator[tuple[str, Ticket]]:
    """Yield the runs of a submission and their tickets; nothing if the cluster does not have the job."""
    array = submission.array_job
    if array == NO_ARRAY_JOB:
        return
    cancelled = submission.cancelled_runs()
    record = submission.record
    ticket = Ticket("waiting", record.launcher, record.submitted, array=array, submission=submission.folder.name)
    for name, job in submission.task_ids(array or "").items():
        yield name, ticket.replace(cancelled=name in cancelled, job=job if array else None)


def write_ticket(batch: Batch, name: str, ticket: Ticket) -> None:
    """Write the ticket of a run of the local queue; the caller holds `batch.lock()`."""
    TICKET_FORMAT.write(batch.queue_dir / f"{name}.json", ticket, indent=None)


def cancel_marker_path(batch: Batch, name: str) -> Path:
    """Return the path of the file that cancels a run of the local queue while it exists."""
    return batch.queue_dir / f"{name}{CANCEL_SUFFIX}"
