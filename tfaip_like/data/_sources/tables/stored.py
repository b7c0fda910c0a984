"""Columns of many files, concatenated in temporary files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sources.tables.cells import (
    MAX_EXACT_FLOAT64_INT,
    Array,
    CellError,
    ColumnError,
    cast_exactly,
    check_storable,
    common_dtype,
    describe_dtype,
)

CHUNK_BYTES = 2**24


class StoredColumn:
    """Growing array in a memory-mapped file.

    Its dtype fits all rows so far: if new rows need another one, such as floats after integers, the file is rewritten.

    Args:
        path: file to create; must not exist.
    """

    def __init__(self, path: Path):
        self.count = 0
        self._path = path
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        with self._report_disk_errors():
            self._stream = open(path, "wb")  # noqa: SIM115

    def close(self) -> None:
        """Close the file without deleting it."""
        self._stream.close()

    def append(self, values: Array) -> None:
        """Append rows, shape (N, ...).

        Raises:
            ColumnError: if their shape or kind differs from the previous rows.
            CellError: for a number that the common dtype cannot represent; its index counts from the first row of the
                file.
        """
        check_storable(values)
        if values.dtype.kind == "O":
            for chunk in _iter_fixed_width(values):
                self.append(chunk)
            return
        dtype = _stored_dtype(values.dtype)
        if self._dtype is None or self.count == 0:
            self._dtype, self._shape = dtype, values.shape[1:]
        if not len(values):
            return
        if values.shape[1:] != self._shape:
            raise ColumnError(f"has rows of shape {values.shape[1:]}, but the previous rows have {self._shape}")
        common = common_dtype(self._dtype, dtype)
        if common is None:
            raise ColumnError(f"contains {describe_dtype(dtype)}, but {describe_dtype(self._dtype)} in previous rows")
        if common != self._dtype:
            self._rewrite(common)
        try:
            rows = cast_exactly(values, common)
        except CellError as error:
            raise CellError(self.count + error.index, error.reason, is_global_index=True) from None
        with self._report_disk_errors():
            self._stream.write(_to_bytes(rows))
        self.count += len(values)

    def narrow_to_integers(self) -> None:
        """Convert floats to integers if all of them are integral."""
        if self._dtype == np.float64 and self.count and all(_are_integers(chunk) for chunk in self._chunks()):
            self._rewrite(np.dtype(np.int64))

    def array(self) -> Array:
        """Return all rows as a memory-mapped array."""
        with self._report_disk_errors():
            self._stream.flush()
        dtype = self._dtype or np.dtype(np.float64)
        if self.count == 0 or 0 in self._shape:  # an empty file cannot be mapped
            return np.zeros((self.count, *self._shape), dtype)
        return np.asarray(np.memmap(self._path, dtype, "r", shape=(self.count, *self._shape)))

    def _rewrite(self, dtype: np.dtype[Any]) -> None:
        """Rewrite the file with another dtype."""
        new_path = self._path.with_suffix(".new")
        begin = 0
        with self._report_disk_errors(), open(new_path, "wb") as stream:
            for chunk in self._chunks():
                try:
                    stream.write(
                        _to_bytes(chunk.astype(dtype) if _is_float_to_int(chunk, dtype) else cast_exactly(chunk, dtype))
                    )
                except CellError as error:
                    raise CellError(begin + error.index, error.reason, is_global_index=True) from None
                begin += len(chunk)
        self._stream.close()
        os.replace(new_path, self._path)
        self._stream = open(self._path, "ab")  # noqa: SIM115
        self._dtype = dtype

    @contextmanager
    def _report_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(f"{self._path.parent}: {error.strerror}; set TMPDIR to use another directory") from error

    def _chunks(self) -> Iterator[Array]:
        array = self.array()
        step = max(1, CHUNK_BYTES // max(1, array.itemsize * int(np.prod(self._shape))))
        return (np.ascontiguousarray(array[begin : begin + step]) for begin in range(0, self.count, step))


def _to_bytes(values: Array) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in native byte order; the width of texts is rounded up, so that it rarely grows."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind not in "US":
        return dtype
    width = max(1, dtype.itemsize // np.dtype(f"{dtype.kind}1").itemsize)
    return np.dtype(f"{dtype.kind}{1 << (width - 1).bit_length()}")


def _iter_fixed_width(values: Array) -> Iterator[Array]:
    """Yield chunks of texts as fixed-width arrays, small enough that a long text does not exhaust the memory."""
    longest = max(map(len, values.ravel()), default=0)
    step = max(1, CHUNK_BYTES // (4 * max(1, longest) * max(1, values[:1].size)))
    for begin in range(0, max(1, len(values)), step):
        yield values[begin : begin + step].astype(np.str_)


def _is_float_to_int(values: Array, dtype: np.dtype[Any]) -> bool:
    return values.dtype.kind == "f" and dtype.kind == "i"


def _are_integers(values: Array) -> bool:
    return bool(((values == np.rint(values)) & (np.abs(values) <= MAX_EXACT_FLOAT64_INT)).all())
