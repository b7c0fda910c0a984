"""Values of columns, masks of missing ones, and conversions that keep every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError

Array = npt.NDArray[Any]

MAX_EXACT_FLOAT64_INT = 2**53
"""Up to here float64 holds every whole number."""

NUMERIC_KINDS = "biufc"
"""Kinds of dtypes that hold numbers."""


class ColumnError(UsageError):
    """A column that cannot be read; the text says what it holds, to follow its place in a message.

    Args:
        column: its name, where several columns make one array.
    """

    def __init__(self, reason: str, column: str | None = None):
        super().__init__(reason)
        self.column = column


class CellError(UsageError):
    """A value that a column cannot hold.

    Args:
        index: of its row among the values that were given.
        reason: what is wrong with it, to follow its place in a message.
        column: its name, where several columns make one array.
        is_global_index: whether the index counts from the first row of all files.
    """

    def __init__(self, index: int, reason: str, column: str | None = None, is_global_index: bool = False):
        super().__init__(reason)
        self.index = index
        self.reason = reason
        self.column = column
        self.is_global_index = is_global_index


@dataclass(frozen=True)
class Cells:
    """Values of a column in some rows.

    Args:
        values: an array with a row for each; NaN where a float is missing, anything where another value is. Texts are
            objects, because one long text would make all others as wide.
        missing: which ones are missing, in the shape of `values`; None: none of them.
    """

    values: Array
    missing: npt.NDArray[np.bool_] | None = None

    def missing_mask(self) -> npt.NDArray[np.bool_]:
        """Return which values are missing, NaN included."""
        missing = np.zeros(self.values.shape, bool) if self.missing is None else self.missing
        return missing | np.isnan(self.values) if self.values.dtype.kind in "fc" else missing

    def fill_missing(self, default: bool | int | float | str | None) -> Array:
        """Return the values with `default` in place of the missing ones.

        Without a default these are NaN, for which booleans and whole numbers become floats, or NaT for dates.

        Raises:
            CellError: for a missing text without a default, a default of another kind, or a whole number that
                cannot be kept.
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
        """Raise `CellError` for the first value that is missing."""
        missing = self.missing_mask()
        if missing.any():
            raise CellError(_first_row(missing), "is missing; say in `missing` what stands for it")

    def _replace_missing(self, default: Array, missing: npt.NDArray[np.bool_]) -> Array:
        if not missing.any():
            return self.values
        if missing.all():
            return np.full(self.values.shape, default)
        if default.dtype.kind != self.values.dtype.kind or default.dtype.kind in "US":
            dtype: np.dtype[Any] | None = common_dtype(default.dtype, self.values.dtype)
        else:  # a default such as -1 fits into int8, though it is an int64
            dtype = np.result_type(np.min_scalar_type(default[()]), self.values.dtype)
        if dtype is None:
            raise CellError(
                _first_row(missing),
                f"is missing; {default.item()!r} cannot stand for it among {describe_dtype(self.values.dtype)}",
            )
        values = cast_exactly(np.where(missing, np.zeros((), self.values.dtype), self.values), dtype)
        return np.where(missing, default.astype(dtype), values)


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a table: the cells of its columns by their names.

    Args:
        lines: of the file, where it has any; other rows are counted.
    """

    cells: Mapping[str, Cells]
    lines: Array | None = None


def common_dtype(one: np.dtype[Any], two: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype that holds the values of two, or None; `cast_exactly` refuses values that it would change."""
    one, two = one.newbyteorder("="), two.newbyteorder("=")
    if one == two:
        return one
    if one.kind in NUMERIC_KINDS and two.kind in NUMERIC_KINDS:
        common = np.promote_types(one, two)
        both_whole = one.kind in "biu" and two.kind in "biu"
        return np.dtype(np.int64) if both_whole and common.kind == "f" else common
    if {one.kind, two.kind} == {"U", "O"}:
        return np.dtype(object)
    return np.promote_types(one, two) if one.kind == two.kind and one.kind in "USMm" else None


def cast_exactly(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in another dtype, each of them unchanged.

    Raises:
        CellError: for the first value that the dtype cannot hold.
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
    """Return which whole numbers another dtype holds as a different number."""
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
            f"is {value}, a whole number that {dtype} would change, which its fractions or missing values need; give "
            "`missing` a whole number, or put such columns into separate arrays"
        )
    return f"is {value}, which {dtype} cannot hold"


def _first_row(found: npt.NDArray[np.bool_]) -> int:
    """Return the row of the first value that was found; a scalar is row 0."""
    return int(np.argwhere(found)[0][0]) if found.ndim else 0


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """Return what a dtype holds, as a noun for messages."""
    words = {"U": "texts", "O": "texts", "S": "bytes", "b": "booleans", "M": "dates", "m": "durations"}
    return words.get(dtype.kind, str(dtype))


def check_storable(values: Array) -> None:
    """Raise `ColumnError` for values that are neither numbers, texts nor dates."""
    if values.dtype.kind not in NUMERIC_KINDS + "USMmO":
        raise ColumnError(f"holds {describe_dtype(values.dtype)}, which is no column of numbers or texts")
    if values.ndim == 0:
        raise ColumnError("is a single value, not a column")


def to_object_array(values: Sequence[str]) -> Array:
    """Return texts as an array of objects."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
