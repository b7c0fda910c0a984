"""Submitting the runs of a batch, to the local queue or to a cluster, and cancelling them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like.errors import counted
from tfaip_like.experiments.batch import Batch, BatchIndex, BatchRun, chosen_runs
from tfaip_like.experiments.estimate import estimate
from tfaip_like.experiments.scheduler import QueueSettings, is_at_work, start_scheduler
from tfaip_like.experiments.slurm import (
    OPTIONS,
    Request,
    array_script,
    cancel_jobs,
    check_that_slurm_is_there,
    seconds_of,
    submit_arrays,
)
from tfaip_like.experiments.status import AT_WORK, BatchStatus, needing_work, status_of
from tfaip_like.experiments.tickets import read_tickets, waiting, write_ticket
from tfaip_like.params import Params
from tfaip_like.params.base import field_types
from tfaip_like.trust import check_script, record_code

SECONDS_BETWEEN_QUESTIONS = 10.0
"""Asked of a cluster."""
_TIME = re.compile(r"\d+|(\d+-)?\d+(:\d\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")


class Submit(Params):
    """How runs are submitted."""

    jobs: int | None = None
    """Runs at a time, of the whole batch; by default what generate was given, or else one on this machine (one for each
    of --gpus) and all on a cluster."""

    gpus: list[int] = []
    """On this machine: numbers of the GPUs that are given out, one to each run (0 1). On a cluster: how many
    GPUs each run gets."""

    wait: bool = False
    """Wait until the runs have ended. Ctrl-C ends the waiting, not the runs."""

    slurm: bool = False
    """Submit an array job to a SLURM cluster instead of this machine's queue."""

    partition: str | None = None
    """Partition of the cluster."""

    account: str | None = None
    """Account of the cluster that is charged."""

    cpus: int | None = None
    """Processors for each run on the cluster."""

    time: str | None = None
    """Time limit of a run on the cluster, as SLURM writes it (2:30:00). By default estimated from a calibration."""

    mem: str | None = None
    """Memory of a run on the cluster (4G). By default estimated from a calibration."""

    save_seconds: int = 120
    """How long before its time limit a run is told to save its state, and put back into the queue."""

    sbatch: list[str] = []
    """Further options of sbatch, without their dashes: --sbatch qos=long constraint=v100."""

    dry_run: bool = False
    """Show what would be submitted, and do not."""

    trust_code: bool = False
    """Run the code of a batch that somebody else made; it is recorded as trusted."""

    def check(self) -> None:
        self.require(self.jobs is None or self.jobs >= 1, "jobs", "there must be at least 1")
        self.require(self.save_seconds >= 1, "save_seconds", "there must be at least 1")
        self.require(len(set(self.gpus)) == len(self.gpus), "gpus", "names a GPU twice")
        self.require(
            not self.slurm or len(self.gpus) <= 1, "gpus", "on a cluster say how many GPUs each run gets, one number"
        )
        for name, pattern, like in (("time", _TIME, "2:30:00"), ("mem", _MEMORY, "4G")):
            value = getattr(self, name)
            self.require(value is None or pattern.fullmatch(value) is not None, name, f"write it like {like}")
        self.require(
            self.time is None or seconds_of(self.time) > self.save_seconds,
            "time",
            f"must be longer than --save_seconds {self.save_seconds} and what a run takes to start",
        )
        for option in self.sbatch:
            flag = OPTIONS.get(option.lstrip("-").partition("=")[0])
            self.require(flag is None, "sbatch", f"{option} is said with --{flag}" if flag else f"{option} is set here")
        if not self.slurm:
            for name in ("partition", "account", "cpus", "time", "mem", "sbatch"):
                self.require(not getattr(self, name), name, "is for a cluster: add --slurm")

    def given(self) -> dict[str, Any]:
        """How runs are submitted, where that is not the default; without what a subclass adds."""
        default = Submit()
        values = {name: getattr(self, name) for name in field_types(Submit) if name != "trust_code"}
        return {name: value for name, value in values.items() if value != getattr(default, name)}

    def request(self, index: BatchIndex, time: str, memory: str) -> Request:
        """What is asked of the cluster."""
        return Request(
            time=self.time or time,
            memory=self.mem or memory,
            partition=self.partition,
            account=self.account,
            gpus=self.gpus[0] if self.gpus else None,
            cpus=self.cpus,
            at_once=self.jobs or index.jobs,
            save_seconds=self.save_seconds,
            extra=self.sbatch,
        )


@dataclass(frozen=True)
class Submitted:
    """What was submitted."""

    chosen: list[str]
    """The runs that were asked for, also those that are done or in hand already."""
    text: str
    """For the person who submitted."""


def submit(batch: Batch, patterns: Sequence[str], options: Submit) -> Submitted:
    """Submits the chosen runs, all but those that are done or in hand already.

    What has failed or was stopped goes on from its last checkpoint.
    """
    check_batch(batch, options.trust_code)
    if options.slurm:
        return _submit_to_cluster(batch, patterns, options)
    with batch.changing():
        status, chosen, names = _to_submit(batch, patterns)
        if not options.dry_run:
            jobs = options.jobs or len(options.gpus) or batch.index().jobs or 1
            settings = QueueSettings(jobs, tuple(options.gpus))
            if options.jobs is not None or options.gpus or not is_at_work(batch):
                settings.write(batch)
            for name in names:
                write_ticket(batch, name, waiting())
    if not options.dry_run and (names or status.needs_scheduler):
        start_scheduler(batch)
    verb = "would be submitted" if options.dry_run else "submitted"
    return Submitted(chosen, _said(status, names, verb))


def check_batch(batch: Batch, trust_code: bool = False) -> None:
    """Raise `UntrustedCodeError` for a batch that somebody else made.

    Args:
        trust_code: record it as trusted instead, so that its runs may import its code.
    """
    if trust_code:
        record_code(batch.code_files())
    check_script(batch.script)


def _submit_to_cluster(batch: Batch, patterns: Sequence[str], options: Submit) -> Submitted:
    if not options.dry_run:
        check_that_slurm_is_there()  # before anything is calibrated
    index = batch.index()
    status, chosen, names = _to_submit(batch, patterns)
    runs = [run for run in index.runs if run.name in names]
    said = []
    time_limit, memory = options.time or "", options.mem or ""
    if runs and not (time_limit and memory):
        estimated = estimate(batch, runs, options.save_seconds)
        said.append(estimated.text())
        time_limit, memory = estimated.time, estimated.memory
    request = options.request(index, time_limit, memory)
    if options.dry_run:
        script = [array_script(batch, names, request)] if names else []
        return Submitted(chosen, "\n".join([*said, *script, _said(status, names, "would be submitted")]))
    with batch.changing():  # somebody may have submitted while this was calibrated
        status, chosen, names = _to_submit(batch, patterns)
        jobs = submit_arrays(batch, names, request) if names else []
    where = f"submitted as SLURM job {', '.join(jobs)}" if jobs else "submitted"
    return Submitted(chosen, "\n".join([*said, _said(status, names, where)]))


def _to_submit(batch: Batch, patterns: Sequence[str]) -> tuple[BatchStatus, list[str], list[str]]:
    """How far the batch is, the chosen runs, and those of them that need work."""
    index = batch.index()
    status = status_of(batch, index)
    chosen = [run.name for run in chosen_runs(index, patterns)]
    return status, chosen, needing_work(status, chosen)


def _said(status: BatchStatus, names: Sequence[str], verb: str) -> str:
    others = Counter(run.state for run in status.runs if run.name not in names and run.state in (*AT_WORK, "done"))
    already = ", ".join(f"{count} {state}" for state, count in others.items())
    head = f"{counted(len(names), 'run')} of {status.path} {verb}"
    return f"{head} ({already} already)" if already else head


def wait_for(batch: Batch, names: Sequence[str], seconds_between: float = 0.5) -> list[str]:
    """Waits until runs have ended; those that are not done."""
    while True:
        status = status_of(batch)
        states = {run.name: run.state for run in status.runs if run.name in names}
        if not any(state in AT_WORK for state in states.values()):
            return [name for name, state in states.items() if state != "done"]
        if status.needs_scheduler:  # it was killed
            start_scheduler(batch)
        # Who asks a cluster more often is not liked there.
        is_on_cluster = any(ticket.where == "slurm" for ticket in read_tickets(batch).values())
        time.sleep(SECONDS_BETWEEN_QUESTIONS if is_on_cluster else seconds_between)


def cancel(batch: Batch, patterns: Sequence[str]) -> list[BatchRun]:
    """Take runs out of their queues; those at work save their state and stop."""
    check_batch(batch)  # its files say which processes and jobs are stopped
    with batch.changing():
        index = batch.index()
        states = {run.name: run.state for run in status_of(batch, index).runs}
        runs = [run for run in chosen_runs(index, patterns) if states[run.name] in AT_WORK]
        tickets = read_tickets(batch)
        of_runs = [ticket for run in runs if (ticket := tickets.get(run.name)) is not None]
        cancel_jobs(ticket.job for ticket in of_runs if ticket.where == "slurm" and ticket.job)
        for run in runs:
            ticket = tickets.get(run.name)
            if ticket is None:  # started by hand
                continue
            state = "ended" if ticket.where == "slurm" or ticket.state == "waiting" else ticket.state
            write_ticket(batch, run.name, ticket.but(cancelled=True, state=state))
    if any(states[run.name] == "running" for run in runs):
        start_scheduler(batch)  # for runs whose scheduler was killed
    return [run for run in runs if run.name in tickets]
