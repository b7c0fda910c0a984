"""Base class of random-access sequences, and a compact sequence of strings."""

from __future__ import annotations

import abc
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

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
