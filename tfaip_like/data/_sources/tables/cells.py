"""Cells of columns: values, masks of missing values, and lossless dtype conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError

Array = npt.NDArray[Any]

MAX_EXACT_FLOAT64_INT = 2**53
"""Largest integer up to which float64 represents every integer exactly."""

NUMERIC_KINDS = "biufc"
"""Kinds of numeric dtypes."""


class ColumnError(UsageError):
    """Error of a whole column; its text continues a message that begins with the file and column.

    Args:
        reason: what is wrong with the column.
        column: name of the column, if an array consists of several columns.
    """

    def __init__(self, reason: str, column: str | None = None):
        super().__init__(reason)
        self.column = column


class CellError(UsageError):
    """Error of a single cell.

    Args:
        index: row index in the processed values.
        reason: what is wrong with the value; continues a message that begins with the location of the cell.
        column: name of the column, if an array consists of several columns.
        is_global_index: count the index from the first row of all files.
    """

    def __init__(self, index: int, reason: str, column: str | None = None, is_global_index: bool = False):
        super().__init__(reason)
        self.index = index
        self.reason = reason
        self.column = column
        self.is_global_index = is_global_index


@dataclass(frozen=True)
class Cells:
    """Cells of a column in a batch of rows.

    Args:
        values: shape (N, ...); missing floats are NaN, other missing values arbitrary. Texts have dtype object, because
            in a fixed-width dtype one long text would widen all others.
        missing: mask of missing values, in the shape of `values`; None if no value is missing.
    """

    values: Array
    missing: npt.NDArray[np.bool_] | None = None

    def missing_mask(self) -> npt.NDArray[np.bool_]:
        """Return the mask of missing values, including NaN."""
        missing = np.zeros(self.values.shape, bool) if self.missing is None else self.missing
        return missing | np.isnan(self.values) if self.values.dtype.kind in "fc" else missing

    def fill_missing(self, default: bool | int | float | str | None) -> Array:
        """Return the values with missing ones replaced by `default`.

        Without a default, missing values become NaN (which converts booleans and integers to floats), or NaT for dates.

        Raises:
            CellError: for a missing text without a default, a default of another kind, or an integer that the common
                dtype cannot represent.
        """
        if default is not None:
            if isinstance(default, int) and self.values.dtype.kind in "fc":
                default = float(default)
            return self._replace_missing(np.asarray(default), self.missing_mask())
        if self.missing is None or not self.missing.any() or self.values.dtype.kind in "fc":
            return self.values
        if self.values.dtype.kind in "Mm":
            return self._replace_missing(np.array("NaT", self.values.dtype), self.missing)
        if self.values.dtype.kind in "biu":
            return self._replace_missing(np.array(np.nan), self.missing)
        self.require_no_missing()
        return self.values

    def require_no_missing(self) -> None:
        """Raise `CellError` for the first missing value."""
        missing = self.missing_mask()
        if missing.any():
            raise CellError(_first_row(missing), "is missing; set a value for missing cells in TableFormat.missing")

    def _replace_missing(self, default: Array, missing: npt.NDArray[np.bool_]) -> Array:
        if not missing.any():
            return self.values
        if missing.all():
            return np.full(self.values.shape, default)
        if default.dtype.kind != self.values.dtype.kind or default.dtype.kind in "US":
            dtype: np.dtype[Any] | None = common_dtype(default.dtype, self.values.dtype)
        else:  # a default such as -1 fits int8, although its dtype is int64
            dtype = np.result_type(np.min_scalar_type(default[()]), self.values.dtype)
        if dtype is None:
            raise CellError(
                _first_row(missing),
                f"is missing; the value {default.item()!r} in TableFormat.missing does not match the column, which "
                f"contains {describe_dtype(self.values.dtype)}",
            )
        values = cast_exactly(np.where(missing, np.zeros((), self.values.dtype), self.values), dtype)
        return np.where(missing, default.astype(dtype), values)


@dataclass(frozen=True)
class RowBatch:
    """Batch of table rows.

    Args:
        cells: cells by column name.
        lines: line number of each row, shape (N,); None for files without lines.
    """

    cells: Mapping[str, Cells]
    lines: Array | None = None


def common_dtype(one: np.dtype[Any], two: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the common dtype of two dtypes, or None; it may be lossy for some values, which `cast_exactly` rejects."""
    one, two = one.newbyteorder("="), two.newbyteorder("=")
    if one == two:
        return one
    if one.kind in NUMERIC_KINDS and two.kind in NUMERIC_KINDS:
        common = np.promote_types(one, two)
        both_integral = one.kind in "biu" and two.kind in "biu"
        return np.dtype(np.int64) if both_integral and common.kind == "f" else common
    if {one.kind, two.kind} == {"U", "O"}:
        return np.dtype(object)
    return np.promote_types(one, two) if one.kind == two.kind and one.kind in "USMm" else None


def cast_exactly(values: Array, dtype: np.dtype[Any]) -> Array:
    """Cast values to another dtype without changing any of them.

    Raises:
        CellError: for the first value that the dtype cannot represent.
    """
    if values.dtype == dtype:
        return values
    with np.errstate(all="ignore"):
        result = values.astype(dtype)
    if values.dtype.kind in "iu" and dtype.kind in "iufc":
        changed = _find_changed_integers(values, result)
    elif values.dtype.kind in "Mm":
        changed = (result.astype(values.dtype) != values) & ~np.isnat(values)
    else:
        return result  # a wider float or text, or a boolean
    if changed.any():
        row = _first_row(changed)
        raise CellError(row, _format_cast_error(values[changed][0], dtype))
    return result


def _find_changed_integers(values: Array, result: Array) -> npt.NDArray[np.bool_]:
    """Return the mask of integers that a cast has changed."""
    if result.dtype.kind == "u" or (result.dtype.kind == "i" and values.dtype.kind == "i"):
        return np.asarray((result.astype(values.dtype) != values) | ((values < 0) & (result.dtype.kind == "u")))
    if result.dtype.kind == "i":
        return np.asarray(values > np.iinfo(result.dtype).max)
    changed = np.zeros(values.shape, bool)
    limit = 2 ** (np.finfo(result.dtype).nmant + 1)
    if np.iinfo(values.dtype).max > limit:
        large = (values > limit) | (values < -limit if values.dtype.kind == "i" else False)
        changed[large] = [int(a) != int(b.real) for a, b in zip(values[large], result[large], strict=True)]
    return changed


def _format_cast_error(value: Any, dtype: np.dtype[Any]) -> str:
    if dtype.kind in "fc":
        return (
            f"is {value}, an integer that {dtype} cannot represent exactly, but the column has fractions or missing "
            "values; set an integer in TableFormat.missing, or put such columns into separate arrays"
        )
    return f"is {value}, which {dtype} cannot represent"


def _first_row(mask: npt.NDArray[np.bool_]) -> int:
    """Return the row of the first True value; 0 for a scalar."""
    return int(np.argwhere(mask)[0][0]) if mask.ndim else 0


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """Return a plural noun for the values of a dtype, for messages."""
    words = {"U": "texts", "O": "texts", "S": "bytes", "b": "booleans", "M": "dates", "m": "durations"}
    return words.get(dtype.kind, str(dtype))


def check_storable(values: Array) -> None:
    """Raise `ColumnError` unless the values are numbers, texts or dates with at least one axis."""
    if values.dtype.kind not in NUMERIC_KINDS + "USMmO":
        raise ColumnError(f"contains {describe_dtype(values.dtype)}, not numbers, texts or dates")
    if values.ndim == 0:
        raise ColumnError("is a scalar, not a column")


def to_object_array(values: Sequence[str]) -> Array:
    """Return texts as an array of dtype object."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
