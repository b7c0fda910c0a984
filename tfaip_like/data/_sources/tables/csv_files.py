"""CSV reader for files of spreadsheets, R, pandas and others in any locale."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sources.tables.cells import CellError, Cells, ColumnError, RowBatch, to_object_array
from tfaip_like.data._sources.tables.csv_cells import NA_VALUES, CsvColumnParser, DecimalSeparator
from tfaip_like.data._sources.tables.table_format import TableFormat

logger = logging.getLogger(__name__)

DELIMITERS = ("\t", ";", "|", ",", " ")
"""Candidate delimiters, preferred in this order if several fit."""
CELLS_PER_BATCH = 2**18
MIN_ROWS_PER_BATCH = 64
"""Minimum rows of a batch, even if they have more cells than `CELLS_PER_BATCH`."""
SNIFFED_CHARACTERS = 2**16
"""Characters read to detect the delimiter."""
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
BOMS |= {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # after UTF-32, whose mark has the same first bytes

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Column layout of a CSV file."""

    delimiter: str
    names: list[str]
    """Column names; empty for columns without a name."""
    width: int
    """Number of cells per row."""
    has_row_names: bool = False
    """Rows begin with a row name that has no cell in the header, as written by R."""
    skips: int = 0
    """Number of lines before the header."""


class CsvTable:
    """CSV file with a header.

    Blank lines are skipped, except between the rows of a single column, where they are missing values.

    Args:
        path: file to read.
        table_format: delimiter, encoding and types; detected where not set.

    Raises:
        UsageError: if the file cannot be read or is not valid CSV; names the line.
    """

    def __init__(self, path: Path, table_format: TableFormat):
        self.path = path
        self._format = table_format
        self._non_utf8_line = 0
        """First line that is not UTF-8, which makes the encoding a guess; 0 if it is known."""
        if table_format.encoding:
            self._encoding = _with_bom(table_format.encoding)
        else:
            self._encoding, self._non_utf8_line = _find_encoding(path)
        with self._open_text() as lines:
            head = lines.read(SNIFFED_CHARACTERS)
            is_whole = not lines.read(1)
        self._layout = _find_layout(head, is_whole, path, table_format.delimiter)
        self.names: Sequence[str] = self._layout.names

    def batches(self, columns: Iterable[str]) -> Iterator[RowBatch]:
        """Yield the cells of columns in batches of rows."""
        position_of_name = {name: number for number, name in enumerate(self.names, self._layout.has_row_names)}
        positions = {name: position_of_name[name] for name in columns}
        self._warn_guessed_encoding(positions)
        decimals = DecimalSeparator(self._format.decimal, self._unambiguous_separators())
        parsers = {name: CsvColumnParser(name, decimals, self._format.na_values) for name in positions}
        for lines, rows in self._blocks():
            cells = {
                name: self._parse(parsers[name], [row[position] for row in rows], lines)
                for name, position in positions.items()
            }
            yield RowBatch(cells, np.array(lines, np.int64))
        try:
            decimals.check()
        except ColumnError as error:
            raise UsageError(f"{self.path}: {error}") from None

    def _warn_guessed_encoding(self, columns: Iterable[str]) -> None:
        """Log the guessed encoding if it affects texts or column names."""
        texts = {*self._format.categories, *self._format.texts}
        if self._non_utf8_line and any(name in texts or not name.isascii() for name in columns):
            line, encoding = self._non_utf8_line, self._encoding
            logger.warning(
                "%s: line %d is not UTF-8; assuming %s (set TableFormat.encoding to change this)",
                self.path,
                line,
                encoding,
            )

    def _unambiguous_separators(self) -> str:
        """Return the decimal separators that need no further evidence.

        Programs delimit by semicolons in locales with a decimal comma. Excel writes UTF-16 with tabs in all locales.
        """
        if self._layout.delimiter == ";":
            return ","
        return "" if self._encoding == "utf-16" else "."

    def _parse(self, parser: CsvColumnParser, cells: Sequence[str], lines: Sequence[int]) -> Cells:
        name = parser.name

        def place(row: int) -> str:
            return f"line {lines[row]}, column {name!r}"

        try:
            if name in self._format.categories:
                return self._categories(name, cells)
            if name in self._format.texts:
                return _to_text_cells(cells, self._format.na_values)
            return parser.parse(cells, place)
        except CellError as error:
            raise UsageError(f"{self.path}, {place(error.index)}: {error.reason}") from None

    def _categories(self, name: str, cells: Sequence[str]) -> Cells:
        """Strip texts; a missing-value marker that is also a category is kept as a category."""
        stripped = [cell.strip() for cell in cells]
        return _to_text_cells(stripped, NA_VALUES.union(self._format.na_values) - set(self._format.categories[name]))

    def _blocks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Yield blocks of rows, each with the line numbers on which its rows begin."""
        width, skips = self._layout.width, self._layout.skips
        with self._open_text() as lines:
            for _ in range(skips):
                lines.readline()
            reader = _make_reader(lines, self._layout.delimiter)
            blank_lines: list[int] = []
            try:
                next(cells for cells in reader if not _is_blank(cells))  # the header
                line = skips + reader.line_num + 1
                while block := list(itertools.islice(reader, max(MIN_ROWS_PER_BATCH, CELLS_PER_BATCH // width))):
                    end = skips + reader.line_num + 1
                    if end - line == len(block) and set(map(len, block)) == {width}:
                        yield range(line, end), block
                    else:
                        yield self._rows(block, line, blank_lines)
                    line = end
            except csv.Error as error:
                raise UsageError(f"{self.path}, line {skips + reader.line_num}: {_explain_csv_error(error)}") from None

    def _rows(
        self, block: Sequence[list[str]], line: int, blank_lines: list[int]
    ) -> tuple[Sequence[int], Sequence[Sequence[str]]]:
        """Return the rows of a block with blank lines, multi-line cells or rows of a different width.

        Args:
            block: CSV records.
            line: line number of the first record.
            blank_lines: blank lines since the last row; updated. In a file with a single column they are missing
                values if a row follows.
        """
        is_single = self._layout.width == 1
        lines: list[int] = []
        rows: list[Sequence[str]] = []
        for cells in block:
            if _is_blank(cells) and not (is_single and cells):
                blank_lines.append(line)
            else:
                if is_single:
                    lines += blank_lines
                    rows += [[""]] * len(blank_lines)
                blank_lines.clear()
                lines.append(line)
                rows.append(self._fit_width(cells, line))
            line += 1 + sum(len(_LINE_BREAK.findall(cell)) for cell in cells)
        return lines, rows

    def _fit_width(self, cells: list[str], line: int) -> list[str]:
        """Return the cells of a row without surplus empty cells at its end.

        Raises:
            UsageError: if the row has a different number of cells than the header.
        """
        width = self._layout.width
        if len(cells) == width:
            return cells
        if len(cells) > width and not any(cells[width:]):  # separators at the end of the line
            return cells[:width]
        raise UsageError(
            f"{self.path}, line {line}: has {len(cells)} cells, expected {width} "
            f"({_format_names(self.names)}); quote cells that contain {self._layout.delimiter!r}"
        )

    @contextmanager
    def _open_text(self) -> Iterator[TextIO]:
        csv.field_size_limit(2**31 - 1)
        try:
            with open(self.path, newline="", encoding=self._encoding) as lines:
                yield lines
        except UnicodeError as error:
            raise UsageError(f"{self.path}: not valid {self._encoding}; set TableFormat.encoding") from error
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from error


def _make_reader(lines: Iterable[str], delimiter: str) -> Any:
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")


def _is_blank(cells: Sequence[str]) -> bool:
    return len(cells) < 2 and not any(map(str.strip, cells))


def _to_text_cells(cells: Sequence[str], na_values: Iterable[str]) -> Cells:
    na_values = frozenset(na_values)
    missing = np.array([cell in na_values for cell in cells], bool)
    return Cells(to_object_array(cells), missing if missing.any() else None)


def _find_encoding(path: Path) -> tuple[str, int]:
    """Detect the encoding of a file; return it with the first line that is not UTF-8 (0 if none, else cp1252)."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            for mark, encoding in BOMS.items():
                if head.startswith(mark):
                    return encoding, 0
            file.seek(0)
            line = _find_non_utf8_line(path, iter(lambda: file.read(2**20), b""))
            return ("cp1252" if line else "utf-8"), line
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _with_bom(encoding: str) -> str:
    """Return the variant of an encoding that skips a byte order mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _find_non_utf8_line(path: Path, chunks: Iterable[bytes]) -> int:
    """Return the first line that is not UTF-8, or 0."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, invalid_line = 1, 0
    for chunk in itertools.chain(chunks, [b""]):
        if b"\0" in chunk:
            raise UsageError(
                f"{path}: contains NUL bytes, so it is not a text table; if it is UTF-16, set TableFormat.encoding to "
                "utf-16-le"
            )
        if invalid_line:
            continue
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            invalid_line = line + error.object.count(b"\n", 0, error.start)
        line += chunk.count(b"\n")
    return invalid_line


def _find_layout(head: str, is_whole: bool, path: Path, delimiter: str | None) -> Layout:
    skips = 0
    if delimiter is None and (match := _SEPARATOR_LINE.match(head)):
        delimiter, head, skips = match[1], head[match.end() :], 1
    lines = [line for line in head.splitlines() if line.strip()]
    has_quoted_rows = len(lines) > 1 and lines[1].startswith('"')
    candidates = [delimiter] if delimiter is not None else _candidate_delimiters(lines[0] if lines else "")
    layouts = []
    for candidate in candidates:
        records = _read_records(head, candidate, is_whole)
        if records and (layout := _match_layout(candidate, records, has_quoted_rows, skips)):
            layouts.append(layout)
    if layouts:
        return layouts[0]
    # No delimiter fits all rows: take the one with the most columns; reading reports the row that does not fit.
    by_delimiter = {candidate: _read_records(head, candidate, is_whole) for candidate in candidates}
    best = max(candidates, key=lambda candidate: len(by_delimiter[candidate][0]) if by_delimiter[candidate] else 0)
    if not by_delimiter[best]:
        raise UsageError(f"{path}: empty file; the first line must contain the column names")
    names = [name.strip() for name in by_delimiter[best][0]]
    return Layout(best, names, len(names), skips=skips)


def _candidate_delimiters(header: str) -> list[str]:
    """Return the delimiters that occur in the header; a space only between quoted names, as written by R."""
    candidates = [d for d in DELIMITERS if d in header and (d != " " or header.startswith('"'))]
    return candidates or [","]


def _read_records(head: str, delimiter: str, is_whole: bool) -> list[list[str]]:
    """Return the header and the complete rows in `head`, without blank lines."""
    records: list[list[str]] = []
    reader = _make_reader(io.StringIO(head, newline=""), delimiter)
    try:
        records.extend(cells for cells in reader if not _is_blank(cells))
    except csv.Error:
        if is_whole:
            return records  # reading the rows reports the line
    return records if is_whole or len(records) < 2 else records[:-1]


def _match_layout(delimiter: str, records: Sequence[Sequence[str]], has_quoted_rows: bool, skips: int) -> Layout | None:
    """Return the layout of a file if its rows match its header, else None.

    One surplus cell in every row is a row name if it is quoted, as written by R; without quotes it may come from a
    decimal comma.
    """
    names = [name.strip() for name in records[0]]
    rows = [row for row in records[1:] if any(row)]
    width = len(names)
    if all(len(row) == width or (not any(row[width:]) and len(row) > width) for row in rows):
        return Layout(delimiter, names, width, skips=skips)
    if has_quoted_rows and all(len(row) == width + 1 for row in rows):
        return Layout(delimiter, names, width + 1, has_row_names=True, skips=skips)
    return None


def _explain_csv_error(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "unclosed quote, opened on this line or before"
    if "expected after" in text:
        return "text after a closing quote; double a quote inside a quoted cell"
    return text


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(name or "(no name)" for name in names[:8]) + (", ..." if len(names) > 8 else "")
