"""Settings for reading table files."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from dataclasses import replace
from typing import Literal, Self

from tfaip_like.params import Params


class TableFormat(Params):
    """Settings for reading table files; unset values are detected.

    If they are the `table_format` of a scenario's `Data`, categories and missing values are stored in exports, so that
    predict-scenario reads tables like the training.

    Example:
        >>> table_format = TableFormat(categories={"color": ["red", "blue"]}, missing={"width": 0}, delimiter=";")
    """

    columns: dict[str, list[str]] = {}
    """Columns of each input in predict-scenario; by default the column of the same name, or NAME_0, NAME_1 ..."""

    masks: dict[str, list[str]] = {}
    """Inputs that are masks of missing values in predict-scenario, and their columns; see `IsMissing`."""

    categories: dict[str, list[str]] = {}
    """Categories of text columns, in the order of their codes: the first text of the list becomes 0."""

    missing: dict[str, int | float | bool | str] = {}
    """Replacement for the missing values of a column; by default NaN, or an error if the dtype has no NaN."""

    texts: list[str] = []
    """Columns of CSV files that contain texts, not numbers."""

    na_values: list[str] = []
    """Additional cells of CSV files that denote missing values, like empty cells, NA, NaN and NULL."""

    decimal: Literal[".", ","] | None = None
    """Decimal separator of CSV files; by default detected, with an error if it is ambiguous."""

    delimiter: str | None = None
    """Delimiter of CSV files; by default detected from the header: tab, semicolon, pipe or comma."""

    encoding: str | None = None
    """Encoding of CSV files; by default UTF-8, UTF-16 if there is a byte order mark, else cp1252."""

    def described_columns(self) -> set[str]:
        """Return the columns that have categories, a missing value or the type text."""
        return {*self.categories, *self.missing, *self.texts}

    def for_columns(self, columns: Collection[str]) -> Self:
        """Return a copy with the categories, missing values and text columns of some columns only."""
        return replace(
            self,
            categories={name: texts for name, texts in self.categories.items() if name in columns},
            missing={name: value for name, value in self.missing.items() if name in columns},
            texts=[name for name in self.texts if name in columns],
        )

    def check(self) -> None:
        single = self.delimiter is None or len(self.delimiter) == 1
        self.require(single and self.delimiter not in ('"', "\n", "\r"), "delimiter", "must be a single character")
        self.require(self.encoding is None or _is_encoding(self.encoding), "encoding", "unknown encoding")
        for column, texts in self.categories.items():
            self.require(
                len(set(texts)) == len(texts) > 0,
                "categories",
                f"{column!r} needs at least one text, without duplicates",
            )
            default = self.missing.get(column)
            known = not isinstance(default, str) or default in texts
            self.require(known, "missing", f"{column!r}: {default!r} is not one of its categories")


def _is_encoding(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True
