"""Where the rows of a source come from, for messages."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._sample import Arrays
from tfaip_like.data._sources.arrays import ArraySource


class RowLocations:
    """The file and line of each row; a function of the index of a row.

    Args:
        files: in the order of their rows.
        begins: index of the first row of each file.
        lines: of all rows in their files; None where rows are counted.
        rows: indices of the rows that are meant; None for all.
    """

    def __init__(
        self,
        files: Sequence[str],
        begins: Sequence[int],
        lines: npt.NDArray[Any] | None = None,
        rows: npt.NDArray[Any] | None = None,
    ):
        self._files = files
        self._begins = begins
        self._lines = lines
        self._rows = rows

    def __call__(self, index: int) -> str:
        """Return where a row is."""
        row = index if self._rows is None else int(self._rows[index])
        number = bisect.bisect_right(self._begins, row) - 1
        if self._lines is None:
            return f"{self._files[number]}, row {row - self._begins[number] + 1}"
        return f"{self._files[number]}, line {self._lines[row]}"

    def select(self, rows: Any, count: int) -> RowLocations:
        """Return the locations of some of `count` rows, by anything that NumPy can index with."""
        known = np.arange(count) if self._rows is None else self._rows
        return RowLocations(self._files, self._begins, self._lines, known[rows])


class LocatedArraySource(ArraySource):
    """Rows of arrays of which it is known where they come from; so are its parts.

    Args:
        locations: of the rows.
    """

    def __init__(self, inputs: Arrays, targets: Arrays, locations: RowLocations):
        super().__init__(inputs, targets)
        self._locations = locations

    def describe(self, index: int) -> str:
        """Return where a row comes from."""
        return self._locations(index)

    def subset(self, indices: Any) -> ArraySource:
        """Return some rows as a source, by anything that numpy can index with."""
        return LocatedArraySource(*self.rows(indices), self._locations.select(indices, len(self)))
