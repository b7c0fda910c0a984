"""Base class of random-access sequences, and compact sequences of strings and indices."""

from __future__ import annotations

import abc
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class IndexedSequence(Sequence[T]):
    """Base class of sequences; a subclass implements `at` and `__len__`."""

    @abc.abstractmethod
    def at(self, index: int) -> T:
        """Return the item at an index; 0 <= index < len(self)."""

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.at(index % len(self))


def is_thread_safe(part: object) -> bool:
    """Return whether several threads may use copies of a source or a processor; plain lists and tuples always."""
    return type(part) in (list, tuple) or bool(getattr(part, "is_thread_safe", False))


class PackedStrings(IndexedSequence[str]):
    """Compact sequence of strings: one byte array, and the end of each string in it."""

    def __init__(self, texts: Iterable[str]):
        data = bytearray()
        ends = array("q", [0])
        for text in texts:
            data += text.encode("utf-8", "surrogateescape")
            ends.append(len(data))
        # Arrays, because data workers share their memory.
        self._data = np.frombuffer(data, np.uint8)
        self._ends: npt.NDArray[np.int64] = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, index: int) -> str:
        """Return the string at an index."""
        return self._data[self._ends[index] : self._ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")


class IndexRange:
    """Indices from 0 to a count, read like an array but without its memory: 8 bytes times 10^9 samples and processes.

    Args:
        count: number of indices.
    """

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, positions: int) -> int: ...

    @overload
    def __getitem__(self, positions: slice | npt.NDArray[Any]) -> npt.NDArray[np.int64]: ...

    def __getitem__(self, positions: int | slice | npt.NDArray[Any]) -> int | npt.NDArray[np.int64]:
        if isinstance(positions, slice):
            return np.arange(*positions.indices(self._count), dtype=np.int64)
        return np.asarray(positions, np.int64) if isinstance(positions, np.ndarray) else positions

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.arange(self._count, dtype=dtype or np.int64)

    def searchsorted(self, values: Any) -> Any:
        """Return the positions of indices, like `numpy.ndarray.searchsorted`."""
        return np.clip(values, 0, self._count)


Indices: TypeAlias = "npt.NDArray[np.int64] | IndexRange"
"""Ascending indices of samples in a source."""
