"""The table of batches and their runs."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import format_json
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, select_runs
from tfaip_like.experiments._launchers.slurm import ClusterJob, query_cluster_jobs
from tfaip_like.experiments._launchers.tickets import Ticket
from tfaip_like.experiments._resources.calibration import format_duration
from tfaip_like.experiments._search.settings import is_search, is_search_running, read_search_settings, resume_command
from tfaip_like.experiments._status import (
    ACTIVE_STATES,
    STATES,
    BatchStatus,
    RunStatus,
    cluster_job_ids,
    make_status,
    read_last_lines,
    resolve_tickets,
)

MAX_DEPTH = 4
"""How deep below a folder batches are looked for."""
COLUMN_TITLES = ("run", "state", "epoch", "best", "left", "node")
JOB_COLUMN_TITLES = ("job", "job name")
"""Shown where a run is on a cluster."""


def find_batches(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Batch]:
    """The batches in a folder and below it."""
    if os.path.exists(folder / "batch.json"):  # where nothing may be read, there is none
        yield Batch(folder)
        return
    if depth:
        for below in sorted(_subdirectories(folder), key=_version_sort_key):
            yield from find_batches(below, depth - 1)


def collect_statuses(folders: Sequence[str]) -> list[BatchStatus]:
    """How far the batches in and below some folders are, below the current one if none is named.

    Raises:
        UsageError: for a folder in which there is none.
    """
    found: list[Batch] = []
    for folder in folders or ["."]:
        batches = list(find_batches(Path(folder)))
        if not batches:
            is_there = Path(folder).is_dir()
            what = "there is no batch in this folder or below it" if is_there else "there is no such folder"
            raise UsageError(f"{folder}: {what}; `experiments generate PLAN` makes one")
        found += batches
    read: list[tuple[BatchIndex, Mapping[str, Ticket]] | UsageError] = []
    for batch in found:
        try:
            read.append((batch.read_index(), resolve_tickets(batch)))
        except UsageError as error:
            if str(batch.path) in folders:
                raise
            read.append(error)  # one that cannot be read keeps nobody from seeing the others
    # Asked once.
    jobs = query_cluster_jobs(job for one in read if not isinstance(one, UsageError) for job in cluster_job_ids(one[1]))
    return [_make_status(batch, one, jobs) for batch, one in zip(found, read, strict=True)]


def _make_status(
    batch: Batch, read: tuple[BatchIndex, Mapping[str, Ticket]] | UsageError, jobs: Mapping[str, ClusterJob] | None
) -> BatchStatus:
    if isinstance(read, UsageError):
        return BatchStatus(str(batch.path), "", problem=str(read))
    index, tickets = read
    return make_status(batch, index, tickets, jobs if cluster_job_ids(tickets) else {})


def format_table(batches: Iterable[BatchStatus], brief: bool = False) -> str:
    """The batches for a person."""
    return ("\n" if brief else "\n\n").join(_format_batch(batch, brief) for batch in batches)


def statuses_to_json(batches: Iterable[BatchStatus]) -> str:
    """The batches for a program."""
    return format_json([dataclasses.asdict(batch) for batch in batches], indent=1)


def only_runs(batches: Sequence[BatchStatus], patterns: Sequence[str]) -> list[BatchStatus]:
    """Return the batches that have runs with one of these names or of one of these configurations, with those only.

    Raises:
        UsageError: for a pattern that fits none.
    """
    readable = [(status, Batch(Path(status.path)).read_index()) for status in batches if status.runs]
    if not readable:
        raise UsageError(f"{patterns[0]}: none of these batches has a run")
    all_runs = tuple(run for _, index in readable for run in index.runs)
    chosen = {run.name for run in select_runs(dataclasses.replace(readable[0][1], runs=all_runs), patterns)}
    found = []
    for status, _ in readable:
        if runs := [run for run in status.runs if run.name in chosen]:
            counts = dict(Counter(run.state for run in runs))
            found.append(dataclasses.replace(status, runs=runs, counts=counts))
    return found


def is_idle(batches: Iterable[BatchStatus]) -> bool:
    """Return whether nothing of them waits or runs."""
    return not any(run.state in ACTIVE_STATES for batch in batches for run in batch.runs)


def format_log_tail(batches: Sequence[BatchStatus], run: str, lines: int) -> str:
    """The last lines of a run's log.

    Raises:
        UsageError: when no run is called so, or several are.
    """
    found = [(batch, status) for batch in batches for status in batch.runs if status.name == run]
    if len(found) != 1:
        where = (
            "no run has this name"
            if not found
            else f"{len(found)} batches have a run of this name; name the batch, too"
        )
        raise UsageError(f"--log {run}: {where}")
    batch, status = found[0]
    text = read_last_lines(Batch(Path(batch.path)).log_path(run), lines)
    return "\n".join([f"{status.log}:", *(text or ["(nothing yet)"])])


def _format_batch(batch: BatchStatus, brief: bool) -> str:
    counts = ", ".join(f"{batch.counts[state]} {state}" for state in STATES if batch.counts.get(state))
    title = escape_text(" ".join(batch.description.split()))
    lines = [f"{batch.path}: {pluralize(len(batch.runs), 'run')}: {counts or 'none'}{f' | {title}' if title else ''}"]
    if batch.problem:
        lines.append(f"  {batch.problem}")
    if hint := _resume_hint(batch):
        lines.append(f"  {hint}")
    if not brief and batch.runs:
        lines.append(f"  logs: {os.path.join(batch.path, 'logs', 'RUN.log')}")
        has_jobs = any(run.job for run in batch.runs)
        head = (*COLUMN_TITLES, *JOB_COLUMN_TITLES) if has_jobs else COLUMN_TITLES
        rows = [head, *(tuple(map(escape_text, _format_row(run, has_jobs))) for run in batch.runs)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        for row, run in zip(rows, (None, *batch.runs), strict=True):
            lines.append("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
            if run is not None and run.reason:
                lines.append(f"      {escape_text(run.reason)}")
    return "\n".join(lines)


def _resume_hint(status: BatchStatus) -> str:
    """Return what has stopped in a batch, and the command that continues it; nothing if all is well."""
    batch = Batch(Path(status.path))
    if status.problem or is_search_running(batch):  # a search restarts its queue
        return ""
    command = resume_command(batch)
    if status.needs_scheduler:
        return f"the process of its queue was killed; to resume: {command}"
    if is_search(batch) and (made := len(batch.read_index().runs)) < (trials := read_search_settings(batch).trials):
        return f"the search stopped after {made} of {trials} runs; to resume: {command}"
    return ""


def _format_row(run: RunStatus, has_jobs: bool) -> tuple[str, ...]:
    best = f"{run.monitor} {run.best:.4g}" if run.best is not None else "-"
    left = format_duration(run.seconds_left) if run.seconds_left is not None else "-"
    jobs = (run.job or "-", run.job_name or "-") if has_jobs else ()
    return run.name, run.state, f"{run.epoch}/{run.epochs}", best, left, run.node or "-", *jobs


def _subdirectories(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (folder / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # not ours to read
        return


def _version_sort_key(path: Path) -> tuple[str, int]:
    """Version 10 comes after version 9."""
    stem = path.name.rstrip("0123456789")
    return stem, int(path.name[len(stem) :] or 0)
