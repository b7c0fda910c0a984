"""What validations found, as a table and as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfaip_like._report.summary_store import store_summaries
from tfaip_like._user_code.code_errors import format_user_error
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import write_json
from tfaip_like.data._writers import to_jsonable
from tfaip_like.summaries import Summary


@dataclass(frozen=True)
class ResultRow:
    """What was found for one export on one source, or for one file of predictions."""

    export: Path
    source: str
    """Its name; may be empty."""
    epoch: Any
    values: dict[str, float]
    worst: list[tuple[float, str]]
    """Loss and place of samples."""

    @property
    def title(self) -> str:
        """For a column of a table."""
        return f"{self.export} {self.source}".strip()


@dataclass
class CollectedErrors:
    """What went wrong with some of several exports or files, so that the results of the others are not lost."""

    errors: list[Exception] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect an error of the block."""
        try:
            yield
        except Exception as error:
            self.errors.append(error)

    def raise_collected(self) -> None:
        """Raise what was collected: the error itself if there is one, or one error with the text of each."""
        if len(self.errors) == 1:
            raise self.errors[0]
        faults = [error for error in self.errors if not isinstance(error, UsageError)]
        if faults:
            for other in self.errors:
                if other is not faults[0]:
                    faults[0].add_note(format_user_error(other))
            raise faults[0]
        if self.errors:
            raise UsageError("\n".join(map(format_user_error, self.errors)))


def format_results(results: Sequence[ResultRow]) -> str:
    """Return a column for each result, a row for each value; then the worst samples."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    rows = [["", *(result.title for result in results)]]
    if any(result.epoch is not None for result in results):
        rows += [["epoch", *(str(result.epoch) for result in results)]]
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
    """Write results as JSON, where a file is given (`--json`).

    Raises:
        UsageError: when it cannot be written.
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
