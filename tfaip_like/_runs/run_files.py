"""What a run leaves about itself: `run.json`, `summary.json` and `history.csv`, and how they are read.

Each file has one reader. It refuses what does not fit by the file and the key, the line or the column; a reader of
many runs collects these messages as `problems` instead, and uses what is sound.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_json, read_text
from tfaip_like._utils.typed_json import Count, Seconds, decode, decode_lenient

Row = Mapping[str, float]
"""The numbers of an epoch by their names; `epoch` counts from 1."""

T = TypeVar("T")


class ClusterJobInfo(TypedDict, total=False):
    """The job of a cluster in which a run is trained."""

    name: str
    job: str
    """Its number; of a task of an array ARRAY_TASK."""
    partition: str
    account: str


class ResumeInfo(TypedDict, total=False):
    """A start of a run that had begun before."""

    started: str
    command: list[str]
    host: str
    slurm: ClusterJobInfo | None
    processors: Count | None
    versions: dict[str, str]
    pid: Count
    after: str
    changes: list[str]


class MonitorInfo(TypedDict):
    """How the best epoch is found."""

    monitor: str
    mode: Literal["min", "max"]


class RunInfo(TypedDict, total=False):
    """`run.json`: where a run came from, and what became of it."""

    status: Literal["running", "done", "stopped", "failed"]
    description: str
    scenario: str
    scenario_file: str | None
    command: list[str]
    folder: str
    git_commit: str | None
    git_diff: bool
    random_seed: Count | None
    backend: str
    versions: dict[str, str]
    host: str
    slurm: ClusterJobInfo | None
    user: str | None
    processors: Count | None
    pid: Count
    started: str
    ended: str
    seconds: Seconds
    error: str
    resumed: list[ResumeInfo]
    data: dict[str, Count | None]
    weights: Count
    samples_per_epoch: Count
    best_by: MonitorInfo
    parameters: dict[str, str]
    epoch_ends: list[Seconds]
    """Unix time at the end of each epoch of the last start that completed the training."""


class BestEpoch(TypedDict, total=False):
    """The best epoch of a run that ended."""

    epoch: Count | None
    monitor: str
    mode: Literal["min", "max"]
    value: float | None


class RunSummary(TypedDict, total=False):
    """`summary.json`: what a run reached."""

    best: BestEpoch
    stopped_early: str | None
    last: dict[str, float]
    parameters: dict[str, str]


def read_run_file(tp: type[T], path: Path, problems: list[str] | None = None) -> T:
    """Return the contents of a file of a run; an empty object if there is no such file.

    Args:
        tp: `RunInfo`, `RunSummary` or another `TypedDict`.
        problems: gets a message for each key that does not fit; its value is left out.

    Raises:
        UsageError: without `problems`, for the first thing that does not fit; it names the file and the key or line.
    """
    if not path.exists() and not path.is_symlink():
        return decode(tp, {}, str(path))
    if problems is None:
        return decode(tp, read_json(path), str(path))
    try:
        return decode_lenient(tp, read_json(path), str(path), problems)
    except UsageError as error:
        problems.append(str(error))
        return decode(tp, {}, str(path))


def read_history(path: Path, problems: list[str] | None = None) -> list[dict[str, float]]:
    """Return the rows of a `history.csv`; none if there is no such file.

    Args:
        problems: gets a message for each line that does not fit; that line is left out.

    Raises:
        UsageError: without `problems`, for the first line that does not fit; it names the file and the line.
    """
    if not path.exists() and not path.is_symlink():
        return []
    found = list[str]()
    rows = list[dict[str, float]]()
    try:
        rows = parse_history(read_text(path), str(path), found)
    except UsageError as error:
        found.append(str(error))
    if found and problems is None:
        raise UsageError(found[0])
    if problems is not None:
        problems += found
    return rows


def parse_history(text: str, where: str, problems: list[str], last: int | None = None) -> list[dict[str, float]]:
    """Return the rows of the text of a `history.csv`, without those that do not fit.

    Args:
        problems: gets a message for each of these.
        last: read only that many of the last lines.
    """
    if text and not text.endswith("\n"):  # as we write it; the last number may be cut in the middle
        problems.append(f"{where}, line {text.count(chr(10)) + 1}: is cut off")
        text = text[: text.rfind("\n") + 1]
    skipped = 0
    if last is not None:
        lines = text.splitlines(keepends=True)
        skipped = max(0, len(lines) - 1 - last)
        text = "".join([*lines[:1], *lines[1 + skipped :]])
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = list[dict[str, float]]()
    try:
        names = next(reader, [])
        if problem := _header_error(names):
            problems.append(f"{where}, line 1: {problem}")
            return rows
        numbered = [(reader.line_num + skipped, cells) for cells in reader]
    except csv.Error as error:
        problems.append(f"{where}, line {reader.line_num + skipped}: not valid CSV: {error}")
        return rows
    if not numbered:
        problems.append(f"{where}, line 2: is missing: there is no epoch")
    for number, cells in numbered:
        try:
            row = _parse_row(names, cells)
            if rows and row["epoch"] <= rows[-1]["epoch"]:
                raise ValueError(f"column epoch: {row['epoch']:g} comes after {rows[-1]['epoch']:g}")
            rows.append(row)
        except ValueError as error:
            problems.append(f"{where}, line {number}: {error}")
    return rows


def _header_error(names: Sequence[str]) -> str:
    if not names:
        return "there is nothing in it"
    if "" in names:
        return "a column has no name"
    if "epoch" not in names:
        return "expected the names of the columns, with epoch among them"
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"the column {twice!r} is there twice" if twice is not None else ""


def _parse_row(names: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    if len(cells) != len(names):
        raise ValueError(f"has {len(cells)} cells, but there are {len(names)} columns")
    row = {name: _parse_number(name, cell) for name, cell in zip(names, cells, strict=True) if cell != ""}
    epoch = row.get("epoch", math.nan)
    if not (math.isfinite(epoch) and epoch >= 1 and epoch.is_integer()):
        raise ValueError(f"column epoch: expected a whole number from 1 on, got {cells[names.index('epoch')]!r}")
    return {**row, "epoch": int(epoch)}


def _parse_number(name: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"column {name}: expected a number, got {cell[:40]!r}") from None
    if math.isinf(number) and cell.lstrip("+-").lower() not in ("inf", "infinity"):
        raise ValueError(f"column {name}: the number {cell[:40]} is too large")
    return number
