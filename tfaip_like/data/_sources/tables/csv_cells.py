"""Number parser for CSV cells; rejects ambiguous ones."""

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
"""Cells that denote missing values: the same as in pandas."""

BOOLEANS = {"TRUE": True, "True": True, "true": True, "FALSE": False, "False": False, "false": False}

_NUMBER = re.compile(r"[+-]?(\d+(?P<separator>[.,])?\d*|(?P<first>[.,])\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}", re.ASCII)
"""Number whose only separator may be a decimal or a thousands separator."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,'\N{RIGHT SINGLE QUOTATION MARK}\s]\d{3})+([.,]\d*)?")


class DecimalSeparator:
    """Decimal separator of a file, inferred from its numbers.

    Args:
        configured: separator chosen by the user; None to infer it.
        unambiguous: separators accepted without further evidence: the point in files delimited by commas, the comma in
            files delimited by semicolons.
    """

    def __init__(self, configured: Literal[".", ","] | None, unambiguous: Collection[str]):
        self.configured = configured
        self._unambiguous = unambiguous
        self._confirmed: tuple[str, str] | None = None
        """Confirmed separator, and the cell that confirms it."""
        self._ambiguous: tuple[str, str] | None = None
        """Possible thousands separator, and its first cell."""

    def observe(self, cell: str, separator: str, place: Callable[[], str]) -> None:
        """Update the inference with a number that contains a separator.

        Args:
            cell: text of the number.
            separator: separator in the text.
            place: returns line and column of the cell, for messages.

        Raises:
            ValueError: if the separator contradicts previous numbers.
        """
        if self.configured is not None:
            if separator != self.configured:
                raise ValueError(f"is not a number with the decimal separator {self.configured!r}")
            return
        if self._confirmed is not None and self._confirmed[0] != separator:
            raise ValueError(f"has a different decimal separator than {self._confirmed[1]}")
        if self._ambiguous is not None and self._ambiguous[0] != separator:
            raise ValueError(f"has a different decimal separator than {self._ambiguous[1]}")
        if self._confirmed is None and (separator in self._unambiguous or not _GROUPED.fullmatch(cell)):
            self._confirmed = separator, f"{cell!r} ({place()})"
        elif self._confirmed is None and self._ambiguous is None:
            self._ambiguous = separator, f"{cell!r} ({place()})"

    @property
    def is_point(self) -> bool:
        """Return whether the decimal separator is known to be a point."""
        return (self.configured or (self._confirmed[0] if self._confirmed else None)) == "."

    def check(self) -> None:
        """Raise `ColumnError` if the separator is still ambiguous at the end of the file."""
        if self._confirmed is None and self._ambiguous is not None and self.configured is None:
            separator, cell = self._ambiguous
            raise ColumnError(
                f"{cell} is ambiguous: decimal or thousands separator? Set TableFormat.decimal to {separator!r}, or "
                "write all numbers without thousands separators"
            )


class CsvColumnParser:
    """Parser of one column of a file, called for one block of rows after another.

    Args:
        name: name of the column.
        decimals: decimal separator of the file.
        na_values: cells that denote missing values, in addition to `NA_VALUES`.
    """

    def __init__(self, name: str, decimals: DecimalSeparator, na_values: Collection[str]):
        self.name = name
        self._decimals = decimals
        self._na_values = NA_VALUES.union(na_values)
        self._is_boolean: bool | None = None

    def parse(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Parse cells as booleans, integers or floats.

        Args:
            cells: texts of a block of rows.
            place: returns line and column of a row of the block, for messages about later cells.

        Raises:
            CellError: for a cell that is not a number or is ambiguous.
        """
        rows: list[int] = []
        present = cells
        if not self._na_values.isdisjoint(cells):
            rows = [row for row, cell in enumerate(cells) if cell not in self._na_values]
            present = [cells[row] for row in rows]
        try:
            parsed = self._parse_present(present, lambda row: place(rows[row] if rows else row))
        except CellError as error:
            raise CellError(rows[error.index] if rows else error.index, error.reason) from None
        return parsed if present is cells else _scatter(parsed, rows, len(cells))

    def _parse_present(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Parse cells of which none is missing."""
        if not cells:
            return Cells(np.zeros(0))
        joined = "\n".join(cells)
        if "." in joined and "," not in joined and not self._decimals.is_point:
            self._observe_point(cells, place)
        if self._is_boolean is not True and _is_python_number_text(joined, self._decimals.is_point):
            with suppress(ValueError):
                parsed = _parse_floats(cells) if _has_fraction(joined) else _parse_integers(cells)
                self._is_boolean = False
                return parsed
        return self._parse_one_by_one(cells, place)

    def _observe_point(self, cells: Sequence[str], place: Callable[[int], str]) -> None:
        """Observe the first number with a decimal point, so that the fast path can parse the others."""
        row = next(row for row, cell in enumerate(cells) if "." in cell)
        if _NUMBER.fullmatch(cells[row]):
            try:
                self._decimals.observe(cells[row], ".", partial(place, row))
            except ValueError as error:
                raise CellError(row, f"{_truncate(cells[row])} {error}") from None

    def _parse_one_by_one(self, cells: Sequence[str], place: Callable[[int], str]) -> Cells:
        """Parse cells one by one, for texts that Python's number parsers reject or misread."""
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
            parsed = self._to_cells(clean)
        except CellError as error:
            raise CellError(rows[error.index], error.reason) from None
        return parsed if len(rows) == len(cells) else _scatter(parsed, rows, len(cells))

    def _to_cells(self, clean: Sequence[str]) -> Cells:
        if self._is_boolean:
            return Cells(np.array([BOOLEANS[text] for text in clean], bool))
        return _parse_floats(clean) if _has_fraction("".join(clean)) else _parse_integers(clean)

    def _normalize_cell(self, text: str, place: Callable[[], str]) -> str:
        """Return a number in Python syntax, or a key of `BOOLEANS`."""
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


def _scatter(cells: Cells, rows: Sequence[int], count: int) -> Cells:
    """Distribute cells to the given rows of `count`; all other rows are missing."""
    values = np.full(count, np.nan if cells.values.dtype.kind == "f" else 0, cells.values.dtype)
    missing = np.ones(count, bool)
    values[rows] = cells.values
    missing[rows] = cells.missing_mask()
    return Cells(values, missing)


def _is_python_number_text(joined: str, is_point: bool) -> bool:
    """Return whether Python's number parsers either reject the cells or parse them as intended."""
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
        raise CellError(row, f"{_truncate(cells[row])} exceeds the range of 64-bit integers") from None


def _parse_floats(cells: Sequence[str]) -> Cells:
    values = np.fromiter(map(float, cells), np.float64, len(cells))
    for row in np.flatnonzero(np.abs(values) >= MAX_EXACT_FLOAT64_INT).tolist():
        cell = cells[row].strip()
        if np.isinf(values[row]) and not _INFINITY.fullmatch(cell):
            raise CellError(row, f"{_truncate(cell)} exceeds the range of float64")
        whole = _WHOLE.fullmatch(cell)
        if whole and int(whole[1]) != int(values[row]):
            raise CellError(
                row, f"{_truncate(cell)} is an integer that float64 cannot represent exactly, in a column of fractions"
            )
    return Cells(values)


def _format_number_error(text: str) -> str:
    if _THOUSANDS.fullmatch(text):
        return "has thousands separators; write numbers without them"
    if text.endswith("%"):
        return "is a percentage; write the number without the percent sign"
    return (
        "is not a number; add the column to TableFormat.texts or .categories if it contains texts, or the cell to "
        ".na_values if it denotes a missing value"
    )


def _truncate(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
