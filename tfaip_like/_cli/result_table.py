"""Evaluation results as a table and as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfaip_like._report.summary_store import store_summaries
from tfaip_like._runs.run_files import format_epoch
from tfaip_like._user_code.code_errors import format_user_error
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import write_json
from tfaip_like.data._writers import to_jsonable
from tfaip_like.summaries import Summary


@dataclass(frozen=True)
class ResultRow:
    """Results of one export on one data set, or of one predictions file."""

    export: Path
    source: str
    """Name of the data set; may be empty."""
    epoch: Any
    values: dict[str, float]
    worst: list[tuple[float, str]]
    """Loss and description of the samples with the largest losses."""

    @property
    def title(self) -> str:
        """Title of its column."""
        return f"{self.export} {self.source}".strip()


@dataclass
class CollectedErrors:
    """Errors of some of several exports or files, collected so that the results of the others are not lost."""

    errors: list[Exception] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect an error of the block."""
        try:
            yield
        except Exception as error:
            self.errors.append(error)

    def raise_collected(self) -> None:
        """Raise the collected error; several are combined into one error with the text of each."""
        if len(self.errors) == 1:
            raise self.errors[0]
        unexpected = [error for error in self.errors if not isinstance(error, UsageError)]
        if unexpected:
            for other in self.errors:
                if other is not unexpected[0]:
                    unexpected[0].add_note(format_user_error(other))
            raise unexpected[0]
        if self.errors:
            raise UsageError("\n".join(map(format_user_error, self.errors)))


def format_results(results: Sequence[ResultRow]) -> str:
    """Return a table with a column per result and a row per value, followed by the samples with the largest losses."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    rows = [["", *(result.title for result in results)]]
    if any(result.epoch is not None for result in results):
        rows += [["epoch", *("-" if result.epoch is None else format_epoch(result.epoch) for result in results)]]
    rows += [[name, *(_format_number(result.values.get(name)) for result in results)] for name in names]
    rows = [[escape_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    for result in results:
        if result.worst:
            lines += ["", f"largest losses of {escape_text(result.title)}:"]
            lines += [f"  {loss:10.4g}  {escape_text(place)}" for loss, place in result.worst]
    return "\n".join(line.rstrip() for line in lines)


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _to_json(result: ResultRow) -> dict[str, Any]:
    return {
        "export": str(result.export),
        "list": result.source,
        "epoch": result.epoch,
        "values": to_jsonable(result.values),
        "worst": [{"loss": to_jsonable(loss), "sample": place} for loss, place in result.worst],
    }


def write_results(file: Path | None, results: Sequence[ResultRow]) -> None:
    """Write results as JSON, if a file is given (`--json`).

    Raises:
        UsageError: if it is not writable.
    """
    if file is None:
        return
    try:
        write_json(file, [_to_json(result) for result in results])
    except OSError as error:
        raise UsageError(f"--json {file}: cannot be written: {error.strerror}") from error


def write_summaries(folder: Path | None, source: str, summaries: Mapping[str, Summary]) -> None:
    """Write the summaries of an evaluator, if a directory is given (`--summaries`).

    Args:
        folder: output directory; None writes nothing.
        source: name of the samples; may be empty.
        summaries: summaries by name.

    Raises:
        UsageError: if the directory is not writable.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store_summaries(folder / source, summaries)
    except OSError as error:
        raise UsageError(f"--summaries {folder}: cannot be written: {error.strerror}") from error
