"""`TableSource`: the rows of tables in many files."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.temp_dirs import process_temp_dir
from tfaip_like.data._sources.row_locations import LocatedArraySource, RowLocations
from tfaip_like.data._sources.tables.categories import encode_categories
from tfaip_like.data._sources.tables.cells import (
    Array,
    CellError,
    Cells,
    ColumnError,
    cast_exactly,
    check_storable,
    common_dtype,
    describe_dtype,
)
from tfaip_like.data._sources.tables.files import check_columns, is_text_table, open_table
from tfaip_like.data._sources.tables.stored import StoredColumn
from tfaip_like.data._sources.tables.table_format import TableFormat
from tfaip_like.params._tree import validate_params

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IsMissing:
    """Which values of columns are missing, as booleans in place of the values."""

    columns: str | Sequence[str]
    """One, or several that are stacked."""


ColumnSelection: TypeAlias = str | Sequence[str] | IsMissing
Columns: TypeAlias = Mapping[str, ColumnSelection]
"""Name of an array -> the column of a table that it is, or several that are stacked."""


class TableSource(LocatedArraySource):
    """The rows of tables in many files: .npz, .npy, .csv, .tsv or .parquet.

    The files are read one after another and copied into arrays that are mapped from a temporary file
    (in TMPDIR), so memory holds a part of one file at a time, and any row can be read. The copy is deleted with the
    source.

    A missing value (an empty cell, NA, a null) is NaN, and a column of whole numbers or booleans that has one is
    float64; `TableFormat.missing` gives another value, and `IsMissing` gives a mask of missing values. Texts need
    `TableFormat.categories` to become numbers. A number that no dtype of its column can hold is an error, as is any
    cell that is not certainly a number.

    Example::

        TableSource(
            find_files(["measured/*.csv"], "--data.files"),
            inputs={"x": ["width", "height"], "colour": "colour", "is_measured": IsMissing(["width", "height"])},
            targets={"species": "species"},
            table_format=TableFormat(
                categories={"colour": ["red", "blue"], "species": ["ant", "bee"]}, missing={"width": 0, "height": 0}
            ),
        )

    Args:
        files: in the order of their rows.
        inputs: see `Columns`; the keys of an .npz file are its columns.
        targets: likewise.
        table_format: how the files are read where they leave it open.

    Raises:
        UsageError: for a column that a file does not have or that cannot be read, and for files that do not fit
            together; names the file, line and column.
    """

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Columns,
        targets: Columns | None = None,
        table_format: TableFormat | None = None,
    ):
        if not files:
            raise UsageError("a table needs at least one file")
        columns = {f"inputs-{name}": which for name, which in inputs.items()}
        columns |= {f"targets-{name}": which for name, which in (targets or {}).items()}
        if not columns or not all(map(_column_names, columns.values())):
            raise UsageError("a table needs at least one column, and so does each of its arrays")
        folder = Path(tempfile.mkdtemp(dir=process_temp_dir()))
        self._remove = weakref.finalize(self, shutil.rmtree, str(folder), True)
        with _TableCopier(files, columns, _validate_format(table_format or TableFormat()), folder) as gathering:
            arrays = gathering.arrays()
            locations = gathering.locations()
        logger.info("%s in %s", pluralize(len(next(iter(arrays.values()))), "row"), pluralize(len(files), "file"))
        super().__init__(
            {name: arrays[f"inputs-{name}"] for name in inputs},
            {name: arrays[f"targets-{name}"] for name in targets or {}},
            locations,
        )


class _TableCopier:
    """Copies the columns of many files into a file for each array."""

    def __init__(self, files: Sequence[Path], columns: Columns, table_format: TableFormat, folder: Path):
        self._files = files
        self._columns = columns
        self._format = table_format
        self._begins: list[int] = []
        """Index of the first row of each file."""
        self._count = 0
        """Rows that all arrays have so far."""
        self._stored = {name: StoredColumn(folder / str(number)) for number, name in enumerate(columns)}
        self._lines = StoredColumn(folder / "lines") if all(map(is_text_table, files)) else None
        """Of all rows in their files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for column in (*self._stored.values(), *([self._lines] if self._lines else [])):
            column.close()

    def arrays(self) -> dict[str, Array]:
        """Return the arrays, mapped from their files."""
        for file in self._files:
            self._begins.append(self._count)
            self._copy(file)
        if all(map(is_text_table, self._files)):
            for column in self._stored.values():
                column.narrow_to_integers()
        return {name: column.array() for name, column in self._stored.items()}

    def locations(self) -> RowLocations:
        """Return where the rows are."""
        return RowLocations(list(map(str, self._files)), self._begins, self._lines.array() if self._lines else None)

    def _copy(self, file: Path) -> None:
        """Append the rows of one file."""
        wanted = list(dict.fromkeys(name for which in self._columns.values() for name in _column_names(which)))
        with open_table(file, self._format) as table:
            check_columns(file, table, wanted)
            if file is self._files[0] and (unknown := self._format.described_columns() - set(table.names)):
                logger.warning("%s: has no column %s, which table_format names", file, truncate_list(sorted(unknown)))
            for rows in table.batches(wanted):
                if self._lines is not None and rows.lines is not None:
                    self._lines.append(rows.lines)
                for name, which in self._columns.items():
                    self._append(file, self._stored[name], rows.cells, which)
                self._count = max((column.count for column in self._stored.values()), default=0)

    def _append(self, file: Path, column: StoredColumn, cells: Mapping[str, Cells], which: ColumnSelection) -> None:
        try:
            column.append(_build_array(cells, which, self._format))
        except CellError as error:
            # A number of an earlier row may be what does not fit.
            place = self.locations()(error.index if error.is_global_index else self._count + error.index)
            raise UsageError(f"{place}, {_describe_columns(error, which)}: {error.reason}") from None
        except ColumnError as error:
            raise UsageError(f"{file}, {_describe_columns(error, which)}: {error}") from None


def _validate_format(table_format: TableFormat) -> TableFormat:
    try:
        return validate_params(table_format)
    except UsageError as error:
        raise UsageError(f"TableFormat.{str(error).removeprefix('--')}") from None


def _column_names(which: ColumnSelection) -> list[str]:
    if isinstance(which, IsMissing):
        which = which.columns
    return [which] if isinstance(which, str) else list(which)


def _describe_columns(error: CellError | ColumnError, which: ColumnSelection) -> str:
    return (
        f"column {truncate_list([repr(name) for name in ([error.column] if error.column else _column_names(which))])}"
    )


def _build_array(batch: Mapping[str, Cells], which: ColumnSelection, table_format: TableFormat) -> Array:
    """Return some rows of one array."""
    if isinstance(which, IsMissing):
        missing = [batch[name].missing_mask() for name in _column_names(which)]
        return missing[0] if isinstance(which.columns, str) else np.stack(missing, axis=1)
    arrays = [_decode_column(batch[name], name, table_format) for name in _column_names(which)]
    if isinstance(which, str):
        return arrays[0]
    for name, array in zip(which, arrays, strict=True):
        if common_dtype(arrays[0].dtype, array.dtype) is None or array.shape != arrays[0].shape:
            raise ColumnError(
                f"holds {describe_dtype(array.dtype)} of shape {array.shape[1:]}, which does not match the "
                f"{describe_dtype(arrays[0].dtype)} of shape {arrays[0].shape[1:]} of {which[0]!r}",
                name,
            )
    dtype = reduce(_promote_dtypes, (array.dtype for array in arrays))
    return np.stack([_cast_column(array, dtype, name) for name, array in zip(which, arrays, strict=True)], axis=1)


def _promote_dtypes(one: np.dtype[Any], two: np.dtype[Any]) -> np.dtype[Any]:
    common = common_dtype(one, two)
    assert common is not None
    return common


def _cast_column(values: Array, dtype: np.dtype[Any], column: str) -> Array:
    try:
        return cast_exactly(values, dtype)
    except CellError as error:
        raise CellError(error.index, error.reason, column) from None


def _decode_column(cells: Cells, column: str, table_format: TableFormat) -> Array:
    """Return values of one column, with what the format says of it."""
    default: int | float | bool | str | None = table_format.missing.get(column)
    categories = table_format.categories.get(column)
    try:
        check_storable(cells.values)
        if categories is not None:
            cells = encode_categories(cells, categories)
            default = categories.index(default) if isinstance(default, str) else default
            if default is None:
                cells.require_no_missing()
        return cells.fill_missing(default)
    except CellError as error:
        raise CellError(error.index, error.reason, column) from None
    except ColumnError as error:
        raise ColumnError(str(error), column) from None
