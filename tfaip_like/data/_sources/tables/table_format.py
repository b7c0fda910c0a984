"""How tables are read where their files leave it open."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from dataclasses import replace
from typing import Literal, Self

from tfaip_like.params import Params


class TableFormat(Params):
    """How tables are read where their files leave it open.

    Categories and missing values go with an export if a scenario's `Data` has this as `table_format`, so that
    predict-scenario reads tables as the training did.
    """

    columns: dict[str, list[str]] = {}
    """Columns that make an input, for predict-scenario; by default the column of its name, or NAME_0, NAME_1 ..."""

    masks: dict[str, list[str]] = {}
    """Inputs that say which values of columns are missing, for predict-scenario; see `IsMissing`."""

    categories: dict[str, list[str]] = {}
    """Texts of a column in the order of their numbers: the column holds 0 for the first one, in every file."""

    missing: dict[str, int | float | bool | str] = {}
    """Value of a column in place of missing ones; by default NaN, and an error where a column cannot hold it."""

    texts: list[str] = []
    """Columns of CSV files that hold texts, not numbers."""

    na_values: list[str] = []
    """Cells of CSV files that stand for missing values, besides empty ones, NA, NaN, NULL and the like."""

    decimal: Literal[".", ","] | None = None
    """Decimal separator in CSV files; by default found out, and an error where it is not clear."""

    delimiter: str | None = None
    """Delimiter of CSV files; by default found out from the header: tab, semicolon, bar or comma."""

    encoding: str | None = None
    """Encoding of CSV files; by default UTF-8, UTF-16 with a byte order mark, or else cp1252."""

    def described_columns(self) -> set[str]:
        """Return the names of all columns whose values it says something of."""
        return {*self.categories, *self.missing, *self.texts}

    def for_columns(self, columns: Collection[str]) -> Self:
        """Return it without what it says of other columns."""
        return replace(
            self,
            categories={name: texts for name, texts in self.categories.items() if name in columns},
            missing={name: value for name, value in self.missing.items() if name in columns},
            texts=[name for name in self.texts if name in columns],
        )

    def check(self) -> None:
        single = self.delimiter is None or len(self.delimiter) == 1
        self.require(single and self.delimiter not in ('"', "\n", "\r"), "delimiter", "must be one character")
        self.require(self.encoding is None or _is_encoding(self.encoding), "encoding", "Python has no such encoding")
        for column, texts in self.categories.items():
            self.require(len(set(texts)) == len(texts) > 0, "categories", f"{column!r} needs texts that differ")
            default = self.missing.get(column)
            known = not isinstance(default, str) or default in texts
            self.require(known, "missing", f"{column!r}: {default!r} is none of its categories")


def _is_encoding(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True
