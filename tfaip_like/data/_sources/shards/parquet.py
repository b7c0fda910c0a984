"""`ParquetSource`: data source of Parquet files, read in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.data._sources.arrays import RowSource
from tfaip_like.data._sources.shards.source import FileStamp, ShardedSource, find_shards, stamp_of
from tfaip_like.data._sources.tables.cells import CellError, Cells, ColumnError
from tfaip_like.data._sources.tables.columns import (
    Columns,
    build_array,
    describe_columns,
    selected_columns,
    validate_format,
)
from tfaip_like.data._sources.tables.files import ParquetTable, check_columns, open_table
from tfaip_like.data._sources.tables.table_format import TableFormat

DEFAULT_BUFFER_BYTES = 2**28


class _Footer(NamedTuple):
    stamp: FileStamp
    lengths: list[int]
    """Number of rows of each row group."""
    num_bytes: int
    """Size of the selected columns, decompressed."""


class _Column(NamedTuple):
    values: npt.NDArray[Any]
    had_integers: bool
    """Missing values have made floats of integers."""

    def row(self, row: int) -> Any:
        """Return a row, whose dtype does not depend on the other rows of the row group."""
        value = self.values[row]
        return value.astype(np.int64) if self.had_integers and not np.isnan(value).any() else value


_Columns: TypeAlias = Mapping[str, _Column]


class ParquetSource(ShardedSource, RowSource):
    """Data source of the rows of Parquet files that are larger than memory and disk space for a copy.

    Row groups are read when one of their rows is needed, and decoded ones are buffered in the memory of each process.
    `--train.shuffle` shuffles the row groups, and the rows within windows of those that fit into the buffer, so files
    with row groups of 1,000 to 100,000 rows are read fastest and shuffled best. Columns are selected and converted as
    by `TableSource`, which is faster for tables that fit into the temporary directory.

    Args:
        files: paths or glob patterns; their rows are concatenated in this order.
        inputs: columns of each input, see `TableSource`.
        targets: columns of each target; None for no targets.
        table_format: categories and replacements of missing values.
        buffer_bytes: size of the decoded row groups that each process keeps in memory; at least one is kept.

    Raises:
        UsageError: if a file cannot be read or lacks a column.

    Example::

        source = ParquetSource("data/train-*.parquet", inputs={"x": ["width", "height"]}, targets={"label": "label"})
    """

    def __init__(
        self,
        files: Iterable[str | Path] | str | Path,
        inputs: Columns,
        targets: Columns | None = None,
        table_format: TableFormat | None = None,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    ):
        self.inputs = dict(inputs)
        self.targets = dict(targets or {})
        self.table_format = validate_format(table_format or TableFormat())
        selections = [*self.inputs.values(), *self.targets.values()]
        self.columns = list(dict.fromkeys(name for which in selections for name in selected_columns(which)))
        if not self.columns:
            raise UsageError("ParquetSource: every input and target needs at least one column")
        footers = find_shards(files, type(self).__name__, self._read_footer)
        super().__init__(
            list(footers), [footer.stamp for footer in footers.values()], [f.lengths for f in footers.values()]
        )
        self.sample_bytes = sum(footer.num_bytes for footer in footers.values()) / len(self)
        self.max_window_bytes = buffer_bytes

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        block = int(self.block_ends.searchsorted(index, side="right"))
        row = index - (int(self.block_ends[block - 1]) if block else 0)
        inputs, targets = (
            {name: column.row(row) for name, column in columns.items()} for columns in self._cached_row_groups(block)
        )
        return Sample(inputs, targets)

    def rows(self, indices: npt.NDArray[np.int64]) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some rows."""
        blocks = self.block_ends.searchsorted(indices, side="right")
        order = np.argsort(blocks, kind="stable")
        numbers, begins = np.unique(blocks[order], return_index=True)
        parts = []
        for number, positions in zip(numbers.tolist(), np.split(order, begins[1:]), strict=True):
            rows = indices[positions] - (self.block_ends[number - 1] if number else 0)
            groups = self._cached_row_groups(number)
            parts.append([{name: column.values[rows] for name, column in columns.items()} for columns in groups])
        restore = np.argsort(order)
        inputs, targets = (
            {name: np.concatenate([part[group][name] for part in parts])[restore] for name in columns}
            for group, columns in enumerate((self.inputs, self.targets))
        )
        return inputs, targets

    @cached_property
    def _cached_row_groups(self) -> Callable[[int], tuple[_Columns, _Columns]]:
        """Return a function that returns the inputs and targets of a row group, buffered."""
        assert self.max_window_bytes is not None
        group_bytes = self.sample_bytes * len(self) / len(self.block_ends)
        # One more than a window: a batch may span two windows.
        return lru_cache(1 + int(self.max_window_bytes / max(group_bytes, 1)))(self._read_row_group)

    def _read_footer(self, file: str) -> _Footer:
        stamp = stamp_of(file)
        with open_table(to_path(file), self.table_format) as table:
            if not isinstance(table, ParquetTable):
                raise UsageError(f"{file}: not a .parquet file")
            check_columns(to_path(file), table, self.columns)
            return _Footer(stamp, *table.row_groups(self.columns))

    def _read_row_group(self, block: int) -> tuple[_Columns, _Columns]:
        first = int(self.block_ends[block - 1]) if block else 0
        number, row = self.locate(first)
        file = self.check_unchanged(number)
        first_of_shard = int(self.block_ends.searchsorted(first - row, side="right"))
        with open_table(to_path(file), self.table_format) as table:
            assert isinstance(table, ParquetTable)
            cells = table.read_row_group(block - first_of_shard, self.columns)
        return self._build_columns(self.inputs, cells, first), self._build_columns(self.targets, cells, first)

    def _build_columns(self, columns: Columns, cells: Mapping[str, Cells], first: int) -> _Columns:
        """Return the arrays of the row group that begins at an index."""
        arrays = {}
        for name, which in columns.items():
            try:
                values = build_array(cells, which, self.table_format)
                is_integer = all(cells[column].values.dtype.kind in "iu" for column in selected_columns(which))
                arrays[name] = _Column(values, is_integer and values.dtype.kind == "f")
            except CellError as error:
                place = self.describe(first + error.index)
                raise UsageError(f"{place}, {describe_columns(error, which)}: {error.reason}") from None
            except ColumnError as error:
                raise UsageError(f"{self.describe(first)}, {describe_columns(error, which)}: {error}") from None
        return arrays
