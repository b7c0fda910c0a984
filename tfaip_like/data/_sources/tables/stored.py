"""Columns of many files, gathered in temporary files."""

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
    """The rows of one array, in a file that is mapped into memory.

    Its dtype is that of all rows so far: where new rows need another one, such as floats after whole numbers, the file
    is rewritten.

    Args:
        path: of the file; it must not exist.
    """

    def __init__(self, path: Path):
        self.count = 0
        self._path = path
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        with self._report_disk_errors():
            self._stream = open(path, "wb")  # noqa: SIM115

    def close(self) -> None:
        """Close the file, which stays where it is."""
        self._stream.close()

    def append(self, values: Array) -> None:
        """Write more rows.

        Raises:
            ColumnError: when they are of another shape or kind than those before.
            CellError: for a number that must have another dtype and cannot keep its value; its index counts from the
                first row that was ever written.
        """
        check_storable(values)
        if values.dtype.kind == "O":
            for part in _iter_fixed_width(values):
                self.append(part)
            return
        dtype = _stored_dtype(values.dtype)
        if self._dtype is None or self.count == 0:
            self._dtype, self._shape = dtype, values.shape[1:]
        if not len(values):
            return
        if values.shape[1:] != self._shape:
            raise ColumnError(f"has rows of shape {values.shape[1:]}, but those before have {self._shape}")
        common = common_dtype(self._dtype, dtype)
        if common is None:
            raise ColumnError(f"holds {describe_dtype(dtype)}, but {describe_dtype(self._dtype)} before")
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
        """Make floats whole numbers, if all of them are."""
        if self._dtype == np.float64 and self.count and all(_are_integers(part) for part in self._parts()):
            self._rewrite(np.dtype(np.int64))

    def array(self) -> Array:
        """Return all rows, mapped from the file."""
        with self._report_disk_errors():
            self._stream.flush()
        dtype = self._dtype or np.dtype(np.float64)
        if self.count == 0 or 0 in self._shape:  # an empty file cannot be mapped
            return np.zeros((self.count, *self._shape), dtype)
        return np.asarray(np.memmap(self._path, dtype, "r", shape=(self.count, *self._shape)))

    def _rewrite(self, dtype: np.dtype[Any]) -> None:
        """Rewrite the file with another dtype."""
        aside = self._path.with_suffix(".new")
        begin = 0
        with self._report_disk_errors(), open(aside, "wb") as stream:
            for part in self._parts():
                try:
                    stream.write(
                        _to_bytes(part.astype(dtype) if _is_float_to_int(part, dtype) else cast_exactly(part, dtype))
                    )
                except CellError as error:
                    raise CellError(begin + error.index, error.reason, is_global_index=True) from None
                begin += len(part)
        self._stream.close()
        os.replace(aside, self._path)
        self._stream = open(self._path, "ab")  # noqa: SIM115
        self._dtype = dtype

    @contextmanager
    def _report_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(f"{self._path.parent}: {error.strerror}; another folder can be given by TMPDIR") from error

    def _parts(self) -> Iterator[Array]:
        array = self.array()
        step = max(1, CHUNK_BYTES // max(1, array.itemsize * int(np.prod(self._shape))))
        return (np.ascontiguousarray(array[begin : begin + step]) for begin in range(0, self.count, step))


def _to_bytes(values: Array) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in this machine's byte order; texts get a width that seldom has to grow."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind not in "US":
        return dtype
    width = max(1, dtype.itemsize // np.dtype(f"{dtype.kind}1").itemsize)
    return np.dtype(f"{dtype.kind}{1 << (width - 1).bit_length()}")


def _iter_fixed_width(values: Array) -> Iterator[Array]:
    """Yield texts as arrays of texts of one width, so many at a time that a long one does not fill the memory."""
    longest = max(map(len, values.ravel()), default=0)
    step = max(1, CHUNK_BYTES // (4 * max(1, longest) * max(1, values[:1].size)))
    for begin in range(0, max(1, len(values)), step):
        yield values[begin : begin + step].astype(np.str_)


def _is_float_to_int(part: Array, dtype: np.dtype[Any]) -> bool:
    return part.dtype.kind == "f" and dtype.kind == "i"


def _are_integers(part: Array) -> bool:
    return bool(((part == np.rint(part)) & (np.abs(part) <= MAX_EXACT_FLOAT64_INT)).all())
