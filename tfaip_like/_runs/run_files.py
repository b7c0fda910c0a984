"""Schemas and readers of `run.json`, `summary.json` and `history.csv`.

Invalid content is reported by file and key, line or column. Callers that read many runs collect these messages in
`problems` and use the valid content.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypedDict, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import Json, read_text
from tfaip_like._utils.typed_json import AtLeast, Count, Seconds, decode

Row = Mapping[str, float]
"""Values of an evaluation by column name: after completed epochs (`epoch` 2), or within one (`epoch` 1.5)."""

T = TypeVar("T")

_Epoch: TypeAlias = Annotated[float, AtLeast(0)]

METRICS = "metrics.json"
"""File of an export with its epoch and metrics."""


class ClusterJobInfo(TypedDict, total=False):
    """Cluster job that trains a run."""

    name: str
    job: str
    """Job ID, of the task for a job array."""
    partition: str
    account: str


class ResumeInfo(TypedDict, total=False):
    """Record of a resume."""

    started: str
    command: list[str]
    host: str
    cluster_job: ClusterJobInfo | None
    processors: Count | None
    versions: dict[str, str]
    pid: Count
    after: str
    changes: list[str]


class MonitorInfo(TypedDict):
    """Monitored value that selects the best epoch."""

    monitor: str
    mode: Literal["min", "max"]


class DataFingerprint(TypedDict):
    """Fingerprint of a source."""

    samples: Count | None
    """Number of samples; None for a stream."""
    hashed_samples: Count
    bytes: Count
    """Size of the hashed samples, and of the files that they name."""
    sha256: str
    """Hash of the number of samples, and of the values and files of some; empty for a stream."""


class FileFingerprint(TypedDict):
    """Fingerprint of a file that a parameter names."""

    bytes: Count
    sha256: str
    """Hash of its size, and of its first and last megabyte."""


class RangeTestInfo(TypedDict):
    """Range test that found the learning rate of a run: the smoothed loss at each rate."""

    rates: list[float]
    losses: list[float]


class RunInfo(TypedDict, total=False):
    """Content of `run.json`: provenance and status of a run."""

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
    cluster_job: ClusterJobInfo | None
    user: str | None
    processors: Count | None
    pid: Count
    started: str
    ended: str
    seconds: Seconds
    error: str
    checkpoint: str | None
    """Checkpoint to resume a stopped run from."""
    resumed: list[ResumeInfo]
    data: dict[str, Count | None]
    data_fingerprints: dict[str, DataFingerprint]
    data_files: dict[str, FileFingerprint]
    """Files that parameters of the data name, by flag."""
    weights: Count
    samples_per_epoch: Count
    best_by: MonitorInfo
    parameters: dict[str, str]
    learning_rate_test: RangeTestInfo
    epoch_ends: list[Seconds]
    """Unix time of each row of the history that the last start has added."""


class BestEpoch(TypedDict, total=False):
    """Best epoch of a finished run."""

    epoch: float | None
    step: Count | None
    monitor: str
    mode: Literal["min", "max"]
    value: float | None


class RunSummary(TypedDict, total=False):
    """Content of `summary.json`: results of a run."""

    best: BestEpoch
    stopped_early: str | None
    last: dict[str, float]
    parameters: dict[str, str]
    peak_memory_mb: dict[str, float]
    """Peak memory of the process (`host`) and on the GPUs (`gpu`) since the last start."""


RUN_INFO_FORMAT = FileFormat(
    "run.json",
    RunInfo,
    version=2,
    migrations={1: lambda values: values},  # fingerprints of the data and the learning-rate test were added
)
RUN_SUMMARY_FORMAT = FileFormat("summary.json", RunSummary)
METRICS_FORMAT = FileFormat("metrics.json", dict[str, float])


def read_run_file(file_format: FileFormat[T], path: Path, problems: list[str] | None = None) -> T:
    """Read a JSON file of a run; return an empty object if it does not exist.

    Args:
        file_format: format whose content is a `TypedDict` or `dict`.
        path: path of the file.
        problems: list to append a message to for each invalid key, whose value is then omitted.

    Raises:
        UsageError: without `problems`, for the first invalid key; names the file and the key or line.
    """
    if not os.path.lexists(path):
        return decode(file_format.content, {}, str(path))
    return file_format.read(path) if problems is None else file_format.read_lenient(path, problems)


def as_row_epoch(epoch: float) -> float:
    """Return an epoch as in a row: an integer (1, not 1.0) at its end, so that a resumed run writes the same file."""
    return int(epoch) if math.isfinite(epoch) and epoch == int(epoch) else epoch


def as_row(values: Mapping[str, float]) -> dict[str, float]:
    """Return values with `epoch` and `step` as in a row, which JSON and CSV files may hold as fractions (1.0)."""
    row = dict(values)
    if "epoch" in row:
        row["epoch"] = as_row_epoch(row["epoch"])
    if "step" in row:
        row["step"] = int(row["step"])
    return row


def format_row_place(row: Row) -> str:
    """Return where in a run the values of a row are from.

    Example:
        >>> format_row_place({"epoch": 2, "step": 640}), format_row_place({"epoch": 1.5625, "step": 500})
        ('epoch 2', 'epoch 1.562 (step 500)')
    """
    epoch, step = row["epoch"], row.get("step")
    is_within = epoch != int(epoch)
    return f"epoch {format_epoch(epoch)}" + (f" (step {step:.0f})" if is_within and step is not None else "")


def format_epoch(epoch: float) -> str:
    """Return completed epochs with at most three decimals."""
    return f"{epoch:.3f}".rstrip("0").rstrip(".")


def decode_row(value: Json, where: str) -> dict[str, float]:
    """Decode numbers by name, of which `epoch`, if present, is at least 0 and `step` is an integer.

    Args:
        value: JSON value.
        where: name of the file, for messages.

    Raises:
        UsageError: if a value is not a number; names the key.
    """
    row = decode(dict[str, float], value, where)
    for name, tp in (("epoch", _Epoch), ("step", Count)):
        if name in row:
            decode(dict[str, tp], {name: row[name]}, where)  # type: ignore[valid-type]
    return as_row(row)


def read_metrics(export: Path, problems: list[str] | None = None) -> dict[str, float]:
    """Return the epoch and metrics of an export; an empty dict without an export.

    Args:
        export: export directory.
        problems: list to append a message to if the file is damaged.

    Raises:
        UsageError: without `problems`, if the file is damaged; names the file and the key or line.
    """
    path = export / METRICS
    try:
        return decode_row(dict(METRICS_FORMAT.read(path)), str(path)) if os.path.lexists(path) else {}
    except UsageError as error:
        if problems is None:
            raise
        problems.append(str(error))
        return {}


def read_history(path: Path, problems: list[str] | None = None, last: int | None = None) -> list[dict[str, float]]:
    """Read the rows of a `history.csv`; return an empty list if it does not exist.

    Args:
        path: path of the file.
        problems: list to append a message to for each invalid line, which is then omitted.
        last: number of last rows to read; by default all.

    Raises:
        UsageError: without `problems`, for the first invalid line; names the file and the line.
    """
    if not os.path.lexists(path):
        return []
    messages = list[str]()
    rows = list[dict[str, float]]()
    try:
        rows = parse_history(read_text(path), str(path), messages, last)
    except UsageError as error:
        messages.append(str(error))
    if messages and problems is None:
        raise UsageError(messages[0])
    if problems is not None:
        problems += messages
    return rows


def parse_history(text: str, where: str, problems: list[str], last: int | None = None) -> list[dict[str, float]]:
    """Parse the text of a `history.csv`, omitting invalid rows.

    Args:
        text: content of the file.
        where: name of the file, for messages.
        problems: list to append a message to for each invalid row.
        last: number of last lines to parse; by default all.
    """
    if text and not text.endswith("\n"):  # the last number may be truncated
        problems.append(f"{where}, line {text.count(chr(10)) + 1}: truncated line")
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
        problems.append(f"{where}, line 2: missing; the file has no epochs")
    for number, cells in numbered:
        try:
            row = _parse_row(names, cells)
            if rows and row["epoch"] <= rows[-1]["epoch"]:
                raise ValueError(f"column epoch: expected more than {rows[-1]['epoch']:g}, got {row['epoch']:g}")
            rows.append(row)
        except ValueError as error:
            problems.append(f"{where}, line {number}: {error}")
    return rows


def _header_error(names: Sequence[str]) -> str:
    if not names:
        return "empty file"
    if "" in names:
        return "a column has no name"
    if "epoch" not in names:
        return "expected column names including epoch"
    duplicate = next((name for name in names if names.count(name) > 1), None)
    return f"duplicate column {duplicate!r}" if duplicate is not None else ""


def _parse_row(names: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    if len(cells) != len(names):
        raise ValueError(f"expected {len(names)} cells, got {len(cells)}")
    row = {name: _parse_number(name, cell) for name, cell in zip(names, cells, strict=True) if cell != ""}
    epoch, step = row.get("epoch", math.nan), row.get("step", 1.0)
    if not (math.isfinite(epoch) and epoch > 0):
        raise ValueError(f"column epoch: expected a number above 0, got {cells[names.index('epoch')]!r}")
    if not (math.isfinite(step) and step >= 1 and step.is_integer()):
        raise ValueError(f"column step: expected an integer of at least 1, got {cells[names.index('step')]!r}")
    return as_row(row)


def _parse_number(name: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"column {name}: expected a number, got {cell[:40]!r}") from None
    if math.isinf(number) and cell.lstrip("+-").lower() not in ("inf", "infinity"):
        raise ValueError(f"column {name}: number {cell[:40]} is too large")
    return number
