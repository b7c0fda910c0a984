"""Jobs of all launchers, as the batches record them: each launcher is asked once for the runs of all batches."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, format_json, parse_json, read_text, short_json
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._jobs import ArrayJob
from tfaip_like.experiments.launchers._launcher import JobStatus, Launcher, QueueHealth, SubmittedRun
from tfaip_like.experiments.launchers._submissions import (
    NO_ARRAY_JOB,
    Submission,
    read_submissions,
    submissions_dir,
)
from tfaip_like.experiments.launchers._tickets import Ticket, read_tickets
from tfaip_like.experiments.launchers._tools import ToolError
from tfaip_like.params._tree import validate_params
from tfaip_like.params._values import decode_params


def load_launcher(stored: Mapping[str, Json]) -> Launcher:
    """Return a launcher from its stored form.

    Raises:
        UsageError: if its class cannot be imported on this machine, or a parameter is invalid.
    """
    return _load_launcher(format_json(dict(stored)))


@functools.cache
def _load_launcher(text: str) -> Launcher:
    try:
        return cast(Launcher, validate_params(decode_params((Launcher,), parse_json(text, "launcher"))))
    except UsageError as error:
        raise UsageError(f"launcher: {error}") from error


def group_by_launcher(
    tickets: Mapping[str, Ticket], skip_missing: bool = False
) -> list[tuple[Launcher, dict[str, Ticket]]]:
    """Return the launchers of some tickets, each with its tickets.

    Args:
        tickets: tickets by the names of the runs.
        skip_missing: skip launchers that cannot be imported; `poll_runs` reports them.

    Raises:
        UsageError: see `load_launcher`.
    """
    groups: dict[str, tuple[Launcher, dict[str, Ticket]]] = {}
    for name, ticket in tickets.items():
        try:
            launcher = load_launcher(ticket.launcher)
        except UsageError:
            if skip_missing:
                continue
            raise
        groups.setdefault(launcher.cluster, (launcher, {}))[1][name] = ticket
    return list(groups.values())


def poll_runs(runs: Iterable[SubmittedRun]) -> list[tuple[SubmittedRun, JobStatus]]:
    """Return the jobs of runs, except those that are no longer listed; each launcher is asked once."""
    groups: dict[str, tuple[Launcher, list[SubmittedRun]]] = {}
    answers = list[tuple[SubmittedRun, JobStatus]]()
    for run in runs:
        if run.ticket.state == "reset":
            continue
        try:
            launcher = load_launcher(run.ticket.launcher)
        except UsageError as error:
            answers.append((run, JobStatus("unknown", reason=str(error))))
            continue
        groups.setdefault(launcher.cluster, (launcher, []))[1].append(run)
    for launcher, members in groups.values():
        jobs = zip(members, launcher.poll(members), strict=True)
        answers += [(run, job) for run, job in jobs if job is not None]
    return answers


def submitted_runs(batch: Batch, tickets: Mapping[str, Ticket]) -> list[SubmittedRun]:
    """Return the submitted runs of a batch."""
    return [SubmittedRun(batch, name, ticket) for name, ticket in tickets.items()]


def check_health(batch: Batch, tickets: Mapping[str, Ticket]) -> QueueHealth:
    """Return the condition of the queues of a batch; launchers that cannot be imported are skipped."""
    groups = group_by_launcher(tickets, skip_missing=True)
    found = [launcher.check_health(batch, members) for launcher, members in groups]
    problems = "; ".join(one.problem for one in found if one.problem)
    return QueueHealth(any(one.needs_restart for one in found), problems)


def poll_interval(tickets: Mapping[str, Ticket]) -> float:
    """Return the seconds between two questions about runs; frequent ones put load on the controller of a cluster."""
    groups = group_by_launcher(tickets, skip_missing=True)
    return max((launcher.poll_interval_s for launcher, _ in groups), default=0.0)


def restart_queues(batch: Batch) -> None:
    """Restart the processes of queues that have stopped."""
    for launcher, tickets in group_by_launcher(read_tickets(batch), skip_missing=True):
        if launcher.check_health(batch, tickets).needs_restart:
            launcher.restart(batch)


def resolve_tickets(batch: Batch) -> dict[str, Ticket]:
    """Return the tickets of a batch, with the jobs of interrupted submissions as the clusters report them.

    Raises:
        UsageError: if a ticket is damaged.
    """
    tickets = read_tickets(batch)
    if all(ticket.job for ticket in tickets.values() if ticket.submission is not None):
        return tickets
    for submission in _interrupted(batch):
        try:
            array = load_launcher(submission.record.launcher).find_jobs().get(submission.record.script)
        except UsageError:  # `poll_runs` reports it
            continue
        for name, job in submission.task_ids(array).items() if array is not None else ():
            if tickets[name].submission == submission.folder.name:
                tickets[name] = tickets[name].replace(job=job, array=array)
    return tickets


def _interrupted(batch: Batch) -> list[Submission]:
    return [submission for submission in read_submissions(batch) if submission.array_job is None]


def resolve_interrupted_submissions(batch: Batch) -> None:
    """Determine the outcome of submissions whose process was killed; the caller holds `batch.lock()`.

    Raises:
        UsageError: if there are any, and the cluster cannot be asked.
    """
    for submission in _interrupted(batch):
        try:
            jobs = load_launcher(submission.record.launcher).find_jobs()
        except ToolError as error:
            raise UsageError(
                f"{submission.folder}: this submission was interrupted, and {error.tool} failed to report whether the "
                "cluster has the job; retry on a machine with access to the cluster"
            ) from error
        submission.claim(jobs.get(submission.record.script, NO_ARRAY_JOB))


def read_exit_code(batch: Batch, ticket: Ticket, name: str) -> int | None:
    """Return the exit code of a submitted run; None if it has not exited or the code is unknown.

    Args:
        batch: batch of the run.
        ticket: ticket of the run, which names the submission.
        name: name of the run.

    Raises:
        UsageError: if the file with the exit code is damaged.
    """
    if ticket.submission is None:
        return ticket.code
    file = submissions_dir(batch) / ticket.submission / "codes" / name
    if not os.path.lexists(file):
        return None
    text = read_text(file).strip()
    if text and not re.fullmatch(r"\d{1,3}", text):
        raise UsageError(f"{file}, line 1: expected an exit code, got {short_json(text)}")
    return int(text) if text else None  # empty while it is written, or on a full disk


def describe_failure(batch: Batch, ticket: Ticket) -> str:
    """Return why a job failed, from what the cluster wrote about it; an empty string if unknown."""
    try:
        return load_launcher(ticket.launcher).describe(batch, ticket.job) if ticket.job is not None else ""
    except UsageError:
        return ""


def start_jobs(
    launcher: Launcher, batch: Batch, jobs: Iterable[ArrayJob], active: Sequence[Ticket], lock: int
) -> list[str]:
    """Prepare and submit jobs; the caller holds `batch.lock()`.

    The limit of running tasks applies to the whole batch: a job that could exceed it depends on jobs before it.

    Args:
        launcher: launcher of the jobs.
        batch: batch of the runs.
        jobs: jobs; large ones are split according to the limit of the launcher.
        active: tickets of runs of the batch that are active on the same cluster.
        lock: descriptor of the lock, see `Launcher.submit`.

    Returns:
        The IDs of the jobs.

    Raises:
        UsageError: if a job is rejected; those before it are submitted.
    """
    earlier = list(dict.fromkeys(ticket.array for ticket in active if ticket.array is not None))
    num_tasks = len({ticket.job for ticket in active if ticket.job is not None})
    size = launcher.max_tasks()
    ids = list(earlier)
    for job in (part for whole in jobs for part in (whole.split(size) if size else [whole])):
        num_tasks += len(job.tasks)
        after = _dependencies(launcher, ids, num_tasks, job.request.max_running_tasks)
        try:
            if new := launcher.submit(launcher.prepare(batch, job.after(after)), lock):
                ids.append(new)
        except UsageError as error:
            if submitted := ids[len(earlier) :]:
                raise UsageError(f"{error}\n(submitted before the error: job {', '.join(submitted)})") from error
            raise
    return ids[len(earlier) :]


def _dependencies(launcher: Launcher, ids: Sequence[str], num_tasks: int, limit: int | None) -> Sequence[str]:
    """Return the jobs that must end before the next one starts, so that no more than `limit` tasks run."""
    if limit is None or num_tasks <= limit:
        return ()
    if launcher.capabilities.arrays:
        return ids
    return ids[len(ids) - limit :][:1] if len(ids) >= limit else ()  # `limit` chains of jobs
