"""Cells of CSV files as numbers; ambiguous ones are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

import numpy as np

from tfaip_like.data._sources.tables.arrow import to_integer_array
from tfaip_like.data._sources.tables.cells import MAX_EXACT_FLOAT64_INT, CellError, Cells, ColumnError

_NOT_AVAILABLE = ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "#N/A N/A", "NULL", "null", "None")
_NOT_A_NUMBER = ("NaN", "nan", "NAN", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
NA_VALUES = frozenset((*_NOT_AVAILABLE, *_NOT_A_NUMBER))
"""Cells that stand for a missing value: those of pandas."""

BOOLEANS = {"TRUE": True, "True": True, "true": True, "FALSE": False, "False": False, "false": False}

_NUMBER = re.compile(r"[+-]?(\d+(?P<separator>[.,])?\d*|(?P<first>[.,])\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}", re.ASCII)
"""One separator that may as well be one of thousands."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,'\N{RIGHT SINGLE QUOTATION MARK}\s]\d{3})+([.,]\d*)?")


class DecimalSeparator:
    """What is known of the decimal separator of a file.

    Args:
        given: the separator, where the user says it.
        clear: separators that are clear without proof: the point between commas, the comma between semicolons.
    """

    def __init__(self, given: Literal[".", ","] | None, clear: Collection[str]):
        self.given = given
        self._clear = clear
        self._confirmed: tuple[str, str] | None = None
        """A separator, and the cell that proves it."""
        self._ambiguous: tuple[str, str] | None = None
        """Likewise one that may be of thousands."""

    def observe(self, cell: str, separator: str, place: Callable[[], str]) -> None:
        """Take a number with a separator into account.

        Raises:
            ValueError: when it contradicts the numbers before.
        """
        if self.given is not None:
            if separator != self.given:
                raise ValueError(f"is not a number with the decimal separator {self.given!r}")
            return
        if self._confirmed is not None and self._confirmed[0] != separator:
            raise ValueError(f"has another decimal separator than {self._confirmed[1]}")
        if self._ambiguous is not None and self._ambiguous[0] != separator:
            raise ValueError(f"has another decimal separator than {self._ambiguous[1]}")
        if self._confirmed is None and (separator in self._clear or not _GROUPED.fullmatch(cell)):
            self._confirmed = separator, f"{cell!r} ({place()})"
        elif self._confirmed is None and self._ambiguous is None:
            self._ambiguous = separator, f"{cell!r} ({place()})"

    @property
    def is_point(self) -> bool:
        """Return whether the decimal separator is known to be a point."""
        return (self.given or (self._confirmed[0] if self._confirmed else None)) == "."

    def check(self) -> None:
        """Raise `ColumnError` if it is still not clear at the end of the file."""
        if self._confirmed is None and self._ambiguous is not None and self.given is None:
            separator, cell = self._ambiguous
            raise ColumnError(
                f"{cell} may have a decimal separator or one of thousands; say `decimal`: {separator!r}, or write all "
                "numbers without separators of thousands"
            )


class CsvColumnParser:
    """The cells of one column of a file, block by block.

    Args:
        name: of the column.
        decimals: of the file.
        na_values: cells that stand for missing values, besides `NA_VALUES`.
    """

    def __init__(self, name: str, decimals: DecimalSeparator, na_values: Collection[str]):
        self.name = name
        self._decimals = decimals
        self._na_values = NA_VALUES.union(na_values)
        self._is_boolean: bool | None = None

    def read(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Return cells as booleans, whole numbers or floats.

        Args:
            cells: of a block of rows.
            place: where a cell of the block is, for messages about a later one.

        Raises:
            CellError: for a cell that is not a number, or ambiguous.
        """
        rows: list[int] = []
        present = cells
        if not self._na_values.isdisjoint(cells):
            rows = [row for row, cell in enumerate(cells) if cell not in self._na_values]
            present = [cells[row] for row in rows]
        try:
            read = self._parse_present(present, lambda row: place(rows[row] if rows else row))
        except CellError as error:
            raise CellError(rows[error.index] if rows else error.index, error.reason) from None
        return read if present is cells else _scatter(read, rows, len(cells))

    def _parse_present(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Return cells of which none is empty or NA."""
        if not cells:
            return Cells(np.zeros(0))
        joined = "\n".join(cells)
        if "." in joined and "," not in joined and not self._decimals.is_point:
            self._observe_point(cells, place)
        if self._is_boolean is not True and _is_python_number_text(joined, self._decimals.is_point):
            with suppress(ValueError):
                read = _parse_floats(cells) if _has_fraction(joined) else _parse_integers(cells)
                self._is_boolean = False
                return read
        return self._parse_one_by_one(cells, place)

    def _observe_point(self, cells: Sequence[str], place: Callable[[int], str]) -> None:
        """Take the first number with a point into account, so that the others can be read fast."""
        row = next(row for row, cell in enumerate(cells) if "." in cell)
        if _NUMBER.fullmatch(cells[row]):
            try:
                self._decimals.observe(cells[row], ".", partial(place, row))
            except ValueError as error:
                raise CellError(row, f"{_truncate(cells[row])} {error}") from None

    def _parse_one_by_one(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Return cells that are looked at one by one."""
        rows: list[int] = []
        clean: list[str] = []
        for row, cell in enumerate(cells):
            text = cell.strip().replace("\N{MINUS SIGN}", "-")
            if text in self._na_values:
                continue
            try:
                clean.append(self._normalize_cell(text, partial(place, row)))
            except ValueError as error:
                raise CellError(row, f"{_truncate(cell)} {error}") from None
            rows.append(row)
        try:
            found = self._to_cells(clean)
        except CellError as error:
            raise CellError(rows[error.index], error.reason) from None
        return found if len(rows) == len(cells) else _scatter(found, rows, len(cells))

    def _to_cells(self, clean: Sequence[str]) -> Cells:
        if self._is_boolean:
            return Cells(np.array([BOOLEANS[text] for text in clean], bool))
        return _parse_floats(clean) if _has_fraction("".join(clean)) else _parse_integers(clean)

    def _normalize_cell(self, text: str, place: Callable[[], str]) -> str:
        """Return a number as Python writes it, or one of `BOOLEANS`."""
        if text in BOOLEANS:
            self._set_boolean(True)
            return text
        match = _NUMBER.fullmatch(text)
        if match is None and not _INFINITY.fullmatch(text):
            raise ValueError(_format_number_error(text))
        self._set_boolean(False)
        separator = match and (match["separator"] or match["first"])
        if separator:
            self._decimals.observe(text, separator, place)
        return text.replace(",", ".")

    def _set_boolean(self, is_boolean: bool) -> None:
        if self._is_boolean not in (None, is_boolean):
            raise ValueError("is a boolean among numbers" if is_boolean else "is a number among booleans")
        self._is_boolean = is_boolean


def _scatter(read: Cells, rows: Sequence[int], count: int) -> Cells:
    """Return the cells of some of `count` rows; all others are missing."""
    values = np.full(count, np.nan if read.values.dtype.kind == "f" else 0, read.values.dtype)
    missing = np.ones(count, bool)
    values[rows] = read.values
    missing[rows] = read.missing_mask()
    return Cells(values, missing)


def _is_python_number_text(joined: str, is_point: bool) -> bool:
    """Return whether cells are numbers for Python as well, if it reads them at all."""
    separators = "," in joined or ("." in joined and not is_point)
    return not separators and joined.isascii() and "_" not in joined and _has_no_nan_or_blank(joined)


def _has_no_nan_or_blank(joined: str) -> bool:
    return "n" not in joined and "N" not in joined and " " not in joined and "\t" not in joined


def _has_fraction(joined: str) -> bool:
    return any(character in joined for character in ".eEnN")


def _parse_integers(cells: Sequence[str]) -> Cells:
    numbers = list(map(int, cells))
    try:
        return Cells(np.array(numbers, np.int64))
    except OverflowError:
        pass
    try:
        return Cells(to_integer_array(numbers))
    except ColumnError:
        row = max(range(len(numbers)), key=lambda row: abs(numbers[row]))
        raise CellError(row, f"{_truncate(cells[row])} is too large a whole number") from None


def _parse_floats(cells: Sequence[str]) -> Cells:
    values = np.fromiter(map(float, cells), np.float64, len(cells))
    for row in np.flatnonzero(np.abs(values) >= MAX_EXACT_FLOAT64_INT).tolist():
        cell = cells[row].strip()
        if np.isinf(values[row]) and not _INFINITY.fullmatch(cell):
            raise CellError(row, f"{_truncate(cell)} is too large a number")
        whole = _WHOLE.fullmatch(cell)
        if whole and int(whole[1]) != int(values[row]):
            raise CellError(
                row,
                f"{_truncate(cell)} is a whole number that float64 would change, among fractions",
            )
    return Cells(values)


def _format_number_error(text: str) -> str:
    if _THOUSANDS.fullmatch(text):
        return "has separators of thousands; write numbers without them"
    if text.endswith("%"):
        return "is a percentage; write the number without the sign"
    return (
        "is not a number; name the column in `texts` or `categories` if it holds texts, or the cell in `na_values` if "
        "it means a missing value"
    )


def _truncate(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
