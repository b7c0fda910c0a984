"""Columns of tables: selection, and conversion of their cells to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from tfaip_like._utils.errors import UsageError, truncate_list
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
from tfaip_like.data._sources.tables.table_format import TableFormat
from tfaip_like.params._tree import validate_params


@dataclass(frozen=True)
class IsMissing:
    """Selection of the missing-value mask of columns instead of their values.

    Example:
        >>> inputs = {"x": ["width", "height"], "is_missing": IsMissing(["width", "height"])}
    """

    columns: str | Sequence[str]
    """One column, or several that are stacked to a vector."""


ColumnSelection: TypeAlias = str | Sequence[str] | IsMissing
Columns: TypeAlias = Mapping[str, ColumnSelection]
"""Array name -> its column, or several columns that are stacked to a vector."""


def validate_format(table_format: TableFormat) -> TableFormat:
    """Return a table format after checking it; raise `UsageError` if a value is wrong."""
    try:
        return validate_params(table_format)
    except UsageError as error:
        raise UsageError(f"TableFormat.{str(error).removeprefix('--')}") from None


def selected_columns(which: ColumnSelection) -> list[str]:
    """Return the names of the selected columns."""
    if isinstance(which, IsMissing):
        which = which.columns
    return [which] if isinstance(which, str) else list(which)


def describe_columns(error: CellError | ColumnError, which: ColumnSelection) -> str:
    """Return the column of an error as text, or all selected ones if it names none."""
    names = [error.column] if error.column else selected_columns(which)
    return f"column {truncate_list([repr(name) for name in names])}"


def build_array(batch: Mapping[str, Cells], which: ColumnSelection, table_format: TableFormat) -> Array:
    """Return the rows of one array for a batch of rows."""
    if isinstance(which, IsMissing):
        missing = [batch[name].missing_mask() for name in selected_columns(which)]
        return missing[0] if isinstance(which.columns, str) else np.stack(missing, axis=1)
    arrays = [_decode_column(batch[name], name, table_format) for name in selected_columns(which)]
    if isinstance(which, str):
        return arrays[0]
    for name, array in zip(which, arrays, strict=True):
        if common_dtype(arrays[0].dtype, array.dtype) is None or array.shape != arrays[0].shape:
            raise ColumnError(
                f"contains {describe_dtype(array.dtype)} of shape {array.shape[1:]}, but column {which[0]!r} of the "
                f"same array contains {describe_dtype(arrays[0].dtype)} of shape {arrays[0].shape[1:]}",
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
    """Return the values of one column after encoding categories and replacing missing values."""
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
