"""File and line of the rows of a source, for error messages."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._sample import Arrays
from tfaip_like.data._sources.arrays import ArraySource


class RowLocations:
    """Map from the index of a row to its file and line.

    Args:
        files: file names, in the order of their rows.
        begins: index of the first row of each file.
        lines: line number of every row; None to count rows instead.
        rows: indices of the selected rows; None for all.
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
        """Return file and line of a row as text."""
        row = index if self._rows is None else int(self._rows[index])
        number = bisect.bisect_right(self._begins, row) - 1
        if self._lines is None:
            return f"{self._files[number]}, row {row - self._begins[number] + 1}"
        return f"{self._files[number]}, line {self._lines[row]}"

    def select(self, rows: Any, count: int) -> RowLocations:
        """Return the locations of some of `count` rows; `rows` is any NumPy index."""
        selected = np.arange(count) if self._rows is None else self._rows
        return RowLocations(self._files, self._begins, self._lines, selected[rows])


class LocatedArraySource(ArraySource):
    """Array source that knows the file and line of each row, as do its subsets.

    Args:
        inputs: arrays by input name, each of shape (N, ...).
        targets: arrays by target name, each of shape (N, ...).
        locations: file and line of each row.
    """

    def __init__(self, inputs: Arrays, targets: Arrays, locations: RowLocations):
        super().__init__(inputs, targets)
        self._locations = locations

    def describe(self, index: int) -> str:
        """Return file and line of a row as text."""
        return self._locations(index)

    def subset(self, indices: Any) -> ArraySource:
        """Return a source of some rows; `indices` is any NumPy index."""
        return LocatedArraySource(*self.rows(indices), self._locations.select(indices, len(self)))
