"""Conversion of Arrow arrays, as in Parquet files, to NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfaip_like.data._sources.tables.cells import Array, Cells, ColumnError, to_object_array


def arrow_to_cells(array: Any) -> Cells:
    """Convert an Arrow array to cells.

    Dictionaries are decoded, because two files may number their categories differently. Dates and times become
    datetime64 and timedelta64, integral decimals int64, other decimals the nearest float64; lists of equal length
    become vectors.

    Raises:
        ColumnError: for types without a NumPy equivalent, and for lists of different lengths.
    """
    import pyarrow.compute
    from pyarrow import types

    kind = array.type
    if isinstance(kind, _extension_types()):
        return _convert_extension(array)
    if types.is_dictionary(kind):
        return arrow_to_cells(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return arrow_to_cells(pyarrow.compute.run_end_decode(array))
    if types.is_null(kind):
        return Cells(np.full(len(array), np.nan), np.ones(len(array), bool))
    if types.is_boolean(kind) or types.is_integer(kind):
        return _to_cells(array, array.fill_null(False if types.is_boolean(kind) else 0))
    if types.is_floating(kind) or types.is_date(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return _to_cells(array, array)
    if types.is_time(kind):
        numbers = array.view("int32" if types.is_time32(kind) else "int64")
        return Cells(numbers.fill_null(0).to_numpy(zero_copy_only=False).astype(f"m8[{kind.unit}]"), _null_mask(array))
    if types.is_decimal(kind):
        return Cells(_convert_decimals(array), _null_mask(array))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return Cells(_convert_texts(array), _null_mask(array))
    if _is_list(kind):
        return _convert_vectors(array)
    raise _unsupported_type_error(kind)


def _unsupported_type_error(kind: Any) -> ColumnError:
    hint = "; store its fields as columns" if str(kind).startswith("struct") else ""
    return ColumnError(f"has the type {kind}, which is not a number, text, date or vector{hint}")


def _to_cells(array: Any, filled: Any) -> Cells:
    return Cells(filled.to_numpy(zero_copy_only=False), _null_mask(array))


def _null_mask(array: Any) -> Any:
    return array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None


def _convert_decimals(array: Any) -> Array:
    """Convert decimals to integers if their scale is 0, else to floats (correctly rounded by Python)."""
    values = array.to_pylist()
    if array.type.scale > 0:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    return to_integer_array([int(value or 0) for value in values])


def to_integer_array(values: list[int]) -> Array:
    """Convert integers to an int64 array, or uint64 if needed.

    Raises:
        ColumnError: if neither dtype can represent all of them.
    """
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        if not values or (min(values) >= limits.min and max(values) <= limits.max):
            return np.array(values, dtype)
    largest = max(values, key=abs)
    raise ColumnError(f"contains {largest}, which no NumPy dtype can represent exactly")


def _convert_texts(array: Any) -> Array:
    values = [text or "" for text in array.to_pylist()]
    if any(text.endswith("\0") for text in values):
        raise ColumnError("contains texts that end with a NUL character, which NumPy would drop")
    return to_object_array(values)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    tests = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return any(test(kind) for test in tests) and not types.is_map(kind)


def _convert_vectors(array: Any) -> Cells:
    """Convert lists of equal length to the rows of an array with one more axis."""
    import pyarrow.compute

    present = array.drop_null()
    lengths = pyarrow.compute.unique(pyarrow.compute.list_value_length(present)).to_pylist()
    if len(lengths) > 1:
        raise ColumnError(f"contains vectors of different lengths ({', '.join(map(str, sorted(lengths)[:5]))})")
    fixed = getattr(array.type, "list_size", None)
    if not lengths and fixed is None and len(array):
        raise ColumnError("contains only nulls, so the length of its vectors is unknown")
    return _restore_null_rows(arrow_to_cells(present.flatten()), array, (lengths[0] if lengths else fixed or 0,))


def _restore_null_rows(flat: Cells, array: Any, shape: tuple[int, ...]) -> Cells:
    """Reshape the concatenated vectors of an array to rows of a shape, and insert missing rows for its nulls."""
    is_null = _null_mask(array)
    count = len(array) - array.null_count
    shape = (*shape, *flat.values.shape[1:])
    values = flat.values.reshape(count, *shape)
    missing = None if flat.missing is None else flat.missing.reshape(count, *shape)
    if is_null is None:
        return Cells(values, missing)
    fill = {"f": np.nan, "O": ""}.get(values.dtype.kind, 0)
    all_values = np.full((len(array), *shape), fill, values.dtype)
    all_missing = np.ones((len(array), *shape), bool)
    all_values[~is_null] = values
    all_missing[~is_null] = False if missing is None else missing
    return Cells(all_values, all_missing)


def _extension_types() -> tuple[type, ...]:
    import pyarrow

    return (pyarrow.BaseExtensionType,)


def _convert_extension(array: Any) -> Cells:
    """Convert an array of a supported extension type."""
    name = array.type.extension_name
    if name == "arrow.fixed_shape_tensor":
        return _convert_tensors(array)
    if name == "arrow.bool8":
        stored = arrow_to_cells(array.storage)
        return Cells(stored.values != 0, stored.missing)
    if name == "arrow.json":
        return arrow_to_cells(array.storage)
    raise ColumnError(f"has the extension type {name}, which is not a number, text, date or vector")


def _convert_tensors(array: Any) -> Cells:
    flat = arrow_to_cells(array.storage)
    shape = tuple(array.type.shape)
    axes = array.type.permutation or range(len(shape))

    def rows(values: Array) -> Array:
        return values.reshape(-1, *shape).transpose(0, *(axis + 1 for axis in axes))

    return Cells(rows(flat.values), None if flat.missing is None else rows(flat.missing))
