"""CSV files as spreadsheets, R, pandas and others write them in any country."""

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
"""In the order in which they are preferred where several fit."""
CELLS_PER_BATCH = 2**18
MIN_ROWS_PER_BATCH = 64
"""Rows that are read together even if they have more cells than that."""
SNIFFED_CHARACTERS = 2**16
"""Characters that are looked at to find out the delimiter."""
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
BOMS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32, which begins alike

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Where the columns of a file are."""

    delimiter: str
    names: list[str]
    """Of the columns; empty for those without a name."""
    width: int
    """Cells of each row."""
    has_row_names: bool = False
    """Whether rows begin with a name, for which the header has no cell (R)."""
    skips: int = 0
    """Lines before the header."""


class CsvTable:
    """A CSV file: a header with the names of the columns, and a row of cells on each line.

    Blank lines are skipped, except between the rows of a single column, where they are missing values.

    Raises:
        UsageError: when it cannot be read or is not such a file; names the line.
    """

    def __init__(self, path: Path, table_format: TableFormat):
        self.path = path
        self._format = table_format
        self._non_utf8_line = 0
        """The first line that is not UTF-8, so that the encoding is a guess."""
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
        """Yield the cells of columns, for a batch of rows at a time."""
        numbers = {name: number for number, name in enumerate(self.names, self._layout.has_row_names)}
        places = {name: numbers[name] for name in columns}
        self._warn_guessed_encoding(places)
        decimals = DecimalSeparator(self._format.decimal, self._unambiguous_separators())
        readers = {name: CsvColumnParser(name, decimals, self._format.na_values) for name in places}
        for lines, rows in self._blocks():
            read = {
                name: self._read(readers[name], [row[place] for row in rows], lines) for name, place in places.items()
            }
            yield RowBatch(read, np.array(lines, np.int64))
        try:
            decimals.check()
        except ColumnError as error:
            raise UsageError(f"{self.path}: {error}") from None

    def _warn_guessed_encoding(self, columns: Iterable[str]) -> None:
        """Say which encoding is guessed, where it matters: not for numbers."""
        texts = {*self._format.categories, *self._format.texts}
        if self._non_utf8_line and any(name in texts or not name.isascii() for name in columns):
            line, encoding = self._non_utf8_line, self._encoding
            logger.warning("%s: line %d is not UTF-8; read as %s, `encoding` says another", self.path, line, encoding)

    def _unambiguous_separators(self) -> str:
        """Return the decimal separators that are clear without proof.

        A semicolon is the delimiter where the comma is decimal. Excel writes UTF-16 with tabs in all countries.
        """
        if self._layout.delimiter == ";":
            return ","
        return "" if self._encoding == "utf-16" else "."

    def _read(self, reader: CsvColumnParser, cells: Sequence[str], lines: Sequence[int]) -> Cells:
        name = reader.name

        def place(row: int) -> str:
            return f"line {lines[row]}, column {name!r}"

        try:
            if name in self._format.categories:
                return self._categories(name, cells)
            if name in self._format.texts:
                return _to_text_cells(cells, self._format.na_values)
            return reader.read(cells, place)
        except CellError as error:
            raise UsageError(f"{self.path}, {place(error.index)}: {error.reason}") from None

    def _categories(self, name: str, cells: Sequence[str]) -> Cells:
        """Return texts without blanks around them; those that are no category may be missing values."""
        stripped = [cell.strip() for cell in cells]
        return _to_text_cells(stripped, NA_VALUES.union(self._format.na_values) - set(self._format.categories[name]))

    def _blocks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Yield the cells of some rows at a time, and on which line each of them begins."""
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
        """Return the rows among records, of which some are blank, have cells of several lines, or are no rows.

        Args:
            block: the records.
            line: of the first one.
            blank_lines: since the last row; changed. They are missing values of a single column, if a row follows.
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
        """Return the cells of a row that has an empty one too many or only empty ones.

        Raises:
            UsageError: for any other number of cells.
        """
        width = self._layout.width
        if len(cells) == width:
            return cells
        if len(cells) > width and not any(cells[width:]):  # separators at the end of the line
            return cells[:width]
        raise UsageError(
            f"{self.path}, line {line}: has {len(cells)} cells, but there are {width} columns "
            f"({_format_names(self.names)}); a cell that contains {self._layout.delimiter!r} must be in quotes"
        )

    @contextmanager
    def _open_text(self) -> Iterator[TextIO]:
        csv.field_size_limit(2**31 - 1)
        try:
            with open(self.path, newline="", encoding=self._encoding) as lines:
                yield lines
        except UnicodeError as error:
            raise UsageError(f"{self.path}: is not a text in {self._encoding}; say its `encoding`") from error
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
    """Return the encoding of a file: cp1252 for what is no UTF, with the first line that is not UTF-8 (or 0)."""
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
    """Return an encoding that takes a byte order mark as such."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _find_non_utf8_line(path: Path, parts: Iterable[bytes]) -> int:
    """Return the first line that is not UTF-8, or 0."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, odd = 1, 0
    for part in itertools.chain(parts, [b""]):
        if b"\0" in part:
            raise UsageError(f"{path}: has NUL bytes, so it is no text table; for UTF-16 say `encoding`: utf-16-le")
        if odd:
            continue
        try:
            decoder.decode(part, final=not part)
        except UnicodeDecodeError as error:
            odd = line + error.object.count(b"\n", 0, error.start)
        line += part.count(b"\n")
    return odd


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
    # None fits all rows: the one with most columns, whose odd rows will be named.
    by_delimiter = {candidate: _read_records(head, candidate, is_whole) for candidate in candidates}
    best = max(candidates, key=lambda candidate: len(by_delimiter[candidate][0]) if by_delimiter[candidate] else 0)
    if not by_delimiter[best]:
        raise UsageError(f"{path}: is empty; the first line must have the names of the columns")
    names = [name.strip() for name in by_delimiter[best][0]]
    return Layout(best, names, len(names), skips=skips)


def _candidate_delimiters(header: str) -> list[str]:
    """Return the delimiters that are in the header; a space only between quotes, as R writes them."""
    found = [d for d in DELIMITERS if d in header and (d != " " or header.startswith('"'))]
    return found or [","]


def _read_records(head: str, delimiter: str, is_whole: bool) -> list[list[str]]:
    """Return the header and the first rows that are complete in `head`, without blank lines."""
    records: list[list[str]] = []
    reader = _make_reader(io.StringIO(head, newline=""), delimiter)
    try:
        records.extend(cells for cells in reader if not _is_blank(cells))
    except csv.Error:
        if is_whole:
            return records  # the line is named when the rows are read
    return records if is_whole or len(records) < 2 else records[:-1]


def _match_layout(delimiter: str, records: Sequence[Sequence[str]], has_quoted_rows: bool, skips: int) -> Layout | None:
    """Return the layout of a file with a header and some rows; None if they do not fit together.

    A cell too many at the begin of all rows is their name, if it is in quotes, as R writes it; without quotes it may
    come from a decimal comma.
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
        return "a quote is opened here or before, but never closed"
    if "expected after" in text:
        return "text follows a closing quote; a quote within quotes is written twice"
    return text


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(name or "(no name)" for name in names[:8]) + (", ..." if len(names) > 8 else "")
