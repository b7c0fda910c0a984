"""Who of a batch waits, runs and has ended: a small file for each run that was submitted."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Literal

from tfaip_like.errors import UsageError
from tfaip_like.experiments.batch import Batch
from tfaip_like.json_files import write_json
from tfaip_like.records import Count, Seconds, read_record

Where = Literal["local", "slurm"]


@dataclass(frozen=True)
class Ticket:
    """A run that was submitted."""

    state: Literal["waiting", "running", "ended"]
    """Of the local queue; on a cluster it waits until it has ended, and the cluster knows more."""
    where: Where = "local"
    submitted: Seconds = 0.0
    started: Seconds | None = None
    ended: Seconds | None = None
    code: int | None = None
    """Its exit code, where that is known."""
    cancelled: bool = False
    """Whether it was to stop."""
    host: str | None = None
    pid: Count | None = None
    gpu: Count | None = None
    job: str | None = None
    """What a cluster calls it: ARRAY_TASK."""

    def but(self, **changes: Any) -> Ticket:
        """The ticket with changes."""
        return dataclasses.replace(self, **changes)


def waiting(where: Where = "local", job: str | None = None) -> Ticket:
    """A new ticket."""
    return Ticket("waiting", where, submitted=time.time(), job=job)


def read_tickets(batch: Batch) -> dict[str, Ticket]:
    """Return the tickets of a batch by the names of its runs.

    Raises:
        UsageError: if one is damaged; it names the file and the key or line.
    """
    tickets = {}
    for path in batch.queue.glob("*.json"):
        try:
            tickets[path.stem] = read_record(Ticket, path)
        except UsageError as error:
            if not path.exists() and not path.is_symlink():  # taken away just now
                continue
            raise UsageError(f"{error}\nWithout this file its run counts as not submitted: delete it.") from error
    return tickets


def write_ticket(batch: Batch, name: str, ticket: Ticket) -> None:
    """Replaces the ticket of a run; to be called while `batch.changing()`."""
    write_json(batch.queue / f"{name}.json", dataclasses.asdict(ticket), indent=None)
