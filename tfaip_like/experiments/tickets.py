"""Who of a batch waits, runs and has ended: a small file for each run that was submitted."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from tfaip_like.experiments.batch import Batch
from tfaip_like.files import write_text

Where = Literal["local", "slurm"]


@dataclass(frozen=True)
class Ticket:
    """A run that was submitted."""

    state: Literal["waiting", "running", "ended"]
    """Of the local queue; on a cluster it waits until it has ended, and the cluster knows more."""
    where: Where = "local"
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    code: int | None = None
    """Its exit code, where that is known."""
    cancelled: bool = False
    """Whether it was to stop."""
    host: str | None = None
    pid: int | None = None
    gpu: int | None = None
    job: str | None = None
    """What a cluster calls it: ARRAY_TASK."""

    def but(self, **changes: Any) -> Ticket:
        """The ticket with changes."""
        return dataclasses.replace(self, **changes)


def waiting(where: Where = "local", job: str | None = None) -> Ticket:
    """A new ticket."""
    return Ticket("waiting", where, submitted=time.time(), job=job)


def read_tickets(batch: Batch) -> dict[str, Ticket]:
    """The tickets of a batch by the names of its runs."""
    tickets = {}
    for path in batch.queue.glob("*.json"):
        try:
            tickets[path.stem] = Ticket(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # taken away just now, or lost with the power
            continue
    return tickets


def write_ticket(batch: Batch, name: str, ticket: Ticket) -> None:
    """Replaces the ticket of a run; to be called while `batch.changing()`."""
    write_text(batch.queue / f"{name}.json", json.dumps(dataclasses.asdict(ticket)) + "\n")
