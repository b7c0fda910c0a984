"""Table of batches and their runs."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import format_json
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, select_runs
from tfaip_like.experiments._resources.calibration import format_duration
from tfaip_like.experiments._search.settings import is_search, is_search_running, read_search_settings, resume_command
from tfaip_like.experiments._status.batch_status import BatchStatus, RunStatus, make_status
from tfaip_like.experiments._status.run_log import read_last_lines
from tfaip_like.experiments._status.run_state import ACTIVE_STATES, STATES
from tfaip_like.experiments.launchers._launcher import JobStatus
from tfaip_like.experiments.launchers._recorded import poll_runs, resolve_tickets, submitted_runs
from tfaip_like.experiments.launchers._tickets import Ticket

MAX_DEPTH = 4
"""Depth of the search for batches below a directory."""
COLUMN_TITLES = ("run", "state", "epoch", "best", "left", "node")
JOB_COLUMN_TITLES = ("job", "job name")
"""Additional columns for runs on a cluster."""


def find_batches(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Batch]:
    """Yield the batches in a directory and below it.

    Args:
        folder: directory to search.
        depth: maximum number of levels below it.
    """
    if os.path.exists(folder / "batch.json"):  # False in an unreadable directory
        yield Batch(folder)
        return
    if depth:
        for child in sorted(_subdirectories(folder), key=_version_sort_key):
            yield from find_batches(child, depth - 1)


def collect_statuses(folders: Sequence[str]) -> list[BatchStatus]:
    """Return the status of all batches in and below some directories.

    Args:
        folders: directories to search; by default the current directory.

    Raises:
        UsageError: if a directory contains no batch, or is a damaged batch itself.
    """
    found: list[Batch] = []
    for folder in folders or ["."]:
        batches = list(find_batches(Path(folder)))
        if not batches:
            problem = "no batch in this directory or below it" if Path(folder).is_dir() else "no such directory"
            raise UsageError(f"{folder}: {problem}; create a batch with `experiments generate PLAN`")
        found += batches
    read: list[tuple[BatchIndex, Mapping[str, Ticket]] | UsageError] = []
    for batch in found:
        try:
            read.append((batch.read_index(), resolve_tickets(batch)))
        except UsageError as error:
            if str(batch.path) in folders:
                raise
            read.append(error)  # a damaged batch must not hide the others
    # Each launcher is asked once for all batches.
    pairs = list(zip(found, read, strict=True))
    runs = (run for batch, one in pairs if not isinstance(one, UsageError) for run in submitted_runs(batch, one[1]))
    jobs = defaultdict[Path, dict[str, JobStatus]](dict)
    for run, job in poll_runs(runs):
        jobs[run.batch.path][run.name] = job
    return [_make_status(batch, one, jobs[batch.path]) for batch, one in pairs]


def _make_status(
    batch: Batch, read: tuple[BatchIndex, Mapping[str, Ticket]] | UsageError, jobs: Mapping[str, JobStatus]
) -> BatchStatus:
    if isinstance(read, UsageError):
        return BatchStatus(str(batch.path), "", problem=str(read))
    index, tickets = read
    return make_status(batch, index, tickets, jobs)


def format_table(batches: Iterable[BatchStatus], brief: bool = False) -> str:
    """Return the status of batches as a table.

    Args:
        batches: batches in their order.
        brief: only the headline of each batch, without its runs.
    """
    return ("\n" if brief else "\n\n").join(_format_batch(batch, brief) for batch in batches)


def statuses_to_json(batches: Iterable[BatchStatus]) -> str:
    """Return the status of batches as JSON."""
    return format_json([dataclasses.asdict(batch) for batch in batches], indent=1)


def only_runs(batches: Sequence[BatchStatus], patterns: Sequence[str]) -> list[BatchStatus]:
    """Return the batches restricted to the runs that match a pattern; batches without any are omitted.

    Args:
        batches: batches to filter.
        patterns: names of runs or configurations, see `select_runs`.

    Raises:
        UsageError: if a pattern matches no run.
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
    """Return whether no run of the batches is active."""
    return not any(run.state in ACTIVE_STATES for batch in batches for run in batch.runs)


def format_log_tail(batches: Sequence[BatchStatus], run: str, lines: int) -> str:
    """Return the last lines of the output of a run.

    Args:
        batches: batches that are searched for the run.
        run: name of the run.
        lines: maximum number of lines.

    Raises:
        UsageError: if no run or several runs have this name.
    """
    matches = [(batch, status) for batch in batches for status in batch.runs if status.name == run]
    if not matches:
        raise UsageError(f"--log {run}: no run has this name")
    if len(matches) > 1:
        raise UsageError(f"--log {run}: ambiguous name ({len(matches)} batches); specify the batch")
    batch, status = matches[0]
    text = read_last_lines(Batch(Path(batch.path)).log_path(run), lines)
    return "\n".join([f"{status.log}:", *(text or ["(empty)"])])


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
    """Return how to resume a batch whose scheduler or search has stopped; an empty string otherwise."""
    batch = Batch(Path(status.path))
    if status.problem or is_search_running(batch):  # a search restarts its scheduler
        return ""
    command = resume_command(batch)
    if status.needs_scheduler:
        return f"scheduler is not running; run `{command}` to restart it"
    if is_search(batch) and (count := len(batch.read_index().runs)) < (trials := read_search_settings(batch).trials):
        return f"search stopped after {count} of {trials} runs; run `{command}` to resume it"
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
    except OSError:  # no permission
        return


def _version_sort_key(path: Path) -> tuple[str, int]:
    """Return a sort key that orders `version_10` after `version_9`."""
    stem = path.name.rstrip("0123456789")
    return stem, int(path.name[len(stem) :] or 0)
