"""Input files of predictions: JSON lines, or tables with one row per sample."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.json_files import decode_lines, parse_json_line, read_lines
from tfaip_like.data import IsMissing, Source, TableFormat, TableSource, find_files
from tfaip_like.data._sample import Sample, Spec
from tfaip_like.data._sources.tables.columns import Columns, ColumnSelection
from tfaip_like.data._sources.tables.files import TEXT_SUFFIXES, column_names

STDIN = "-"
JSON_LINES_SUFFIXES = (".jsonl", ".json", STDIN)


def read_samples(
    patterns: Sequence[str],
    inputs: Mapping[str, Spec],
    flag: str,
    table_format: TableFormat | None = None,
    is_processed: bool = False,
) -> Source:
    """Return the samples in files of one kind.

    JSON lines (.jsonl, or `-` for standard input): one object per line with the inputs by name.
    Tables (.npz, .csv, .tsv, .parquet): one column per input, the columns that `TableFormat.columns` lists, or
    `NAME_0`, `NAME_1` ... for the elements of a vector; a single vector input may use all columns, with any names.

    Args:
        patterns: Files, glob patterns or list files.
        inputs: Specs of the inputs of the network by name.
        flag: Flag that named the files, for messages.
        table_format: Table format of the training; its categories and missing values apply to JSON lines as well.
        is_processed: Whether processors may compute inputs from other columns; then all arrays of NumPy files, and
            the columns that `table_format` names, are read too.

    Raises:
        UsageError: If the files are missing, of different kinds, or lack a column.
    """
    table_format = table_format or TableFormat()
    if list(patterns) == [STDIN]:
        return JsonLinesSource([Path(STDIN)], table_format)
    files = find_files(patterns, flag)
    kinds = {file.suffix for file in files}
    if kinds <= set(JSON_LINES_SUFFIXES):
        return JsonLinesSource(files, table_format)
    if kinds & set(JSON_LINES_SUFFIXES):
        raise UsageError(f"{flag}: files of different kinds ({', '.join(sorted(kinds))}); pass one kind at a time")
    names = column_names(files[0], table_format)
    columns = _match_columns(files[0], names, inputs, table_format, is_processed)
    return TableSource(files, columns, table_format=table_format.for_columns(names))


def _match_columns(
    file: Path, names: Sequence[str], inputs: Mapping[str, Spec], table_format: TableFormat, is_processed: bool
) -> Columns:
    """Return the column or columns of each input."""
    selections = {name: _find_columns(name, spec, names, table_format) for name, spec in inputs.items()}
    missing = [name for name, selection in selections.items() if not selection]
    columns: dict[str, ColumnSelection] = {name: selection for name, selection in selections.items() if selection}
    if missing and is_processed:
        is_numpy = file.suffix.lower() in (".npz", ".npy")
        columns |= {name: name for name in names if is_numpy or name in table_format.described_columns()}
        missing = [] if columns else missing
    if len(inputs) == len(missing) == 1 and _uses_all_columns(inputs[missing[0]], names, file):
        return {missing[0]: names}
    if missing:
        numbers = _numbered_columns(missing[0], inputs[missing[0]])
        expected = ", or ".join([missing[0], *([f"{numbers[0]} to {numbers[-1]}"] if numbers else [])])
        raise UsageError(
            f"{file}: no column for input {missing[0]!r} (expected {expected}); available: {', '.join(names)}"
        )
    return columns


def _find_columns(name: str, spec: Spec, names: Sequence[str], table_format: TableFormat) -> ColumnSelection:
    """Return the column or columns of an input; an empty list if the table lacks them."""
    if name in names:
        return name
    masked = table_format.masks.get(name, [])
    if masked and set(masked) <= set(names):
        return IsMissing(masked if spec.shape else masked[0])
    for columns in (table_format.columns.get(name, []), _numbered_columns(name, spec)):
        if columns and set(columns) <= set(names):
            return columns if spec.shape else columns[0]
    return []


def _numbered_columns(name: str, spec: Spec) -> list[str]:
    return [f"{name}_{i}" for i in range(spec.shape[0] or 0)] if len(spec.shape) == 1 else []


def _uses_all_columns(spec: Spec, names: Sequence[str], file: Path) -> bool:
    """Return whether all columns of a table, with any names, are the elements of the only input."""
    if file.suffix.lower() not in (*TEXT_SUFFIXES, ".parquet") or len(spec.shape) != 1:
        return False
    if spec.shape[0] not in (len(names), None):
        return False
    if all(map(_is_number, names)):
        raise UsageError(f"{file}: no header; the first line must contain the column names")
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class JsonLinesSource:
    """Iterable source of the samples in JSON-lines files."""

    def __init__(self, files: Sequence[Path], table_format: TableFormat):
        self.files = files
        self._format = table_format

    def __iter__(self) -> Iterator[Sample]:
        for file in self.files:
            is_stdin = str(file) == STDIN
            name = "standard input" if is_stdin else str(file)
            for number, line in decode_lines(sys.stdin.buffer, name) if is_stdin else read_lines(file):
                if line.strip():
                    where = f"{name}, line {number}"
                    values = _parse_object(line, where)
                    yield Sample(inputs={key: self._convert_value(key, values[key], where) for key in values})

    def _convert_value(self, name: str, value: object, where: str) -> object:
        """Return a value with null replaced by NaN (or the missing value), and a category by its index."""
        value = _fill_missing(value, self._format.missing.get(name, math.nan))
        categories = self._format.categories.get(name)
        if categories is None or not isinstance(value, str):
            return value
        if value not in categories:
            raise UsageError(f"{where}: {name!r}: {value!r} is not one of its categories ({truncate_list(categories)})")
        return categories.index(value)


def _fill_missing(value: object, default: object) -> object:
    if isinstance(value, list):
        return [_fill_missing(part, default) for part in value]
    return default if value is None else value


def _parse_object(line: str, where: str) -> Mapping[str, object]:
    values = parse_json_line(line, where)
    if not isinstance(values, dict):
        raise UsageError(f'{where}: expected an object with the inputs, such as {{"x": [1, 2]}}')
    return values
