"""What all sources with an index have in common."""

from __future__ import annotations

import abc
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class IndexedSequence(Sequence[T]):
    """A sequence of which only `at` and the length are to be written."""

    @abc.abstractmethod
    def at(self, index: int) -> T:
        """The item at an index from 0 on that is there."""

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
    """Many texts in little memory: one piece of bytes, and where each text ends in it."""

    def __init__(self, texts: Iterable[str]):
        data = bytearray()
        ends = array("q", [0])
        for text in texts:
            data += text.encode("utf-8", "surrogateescape")
            ends.append(len(data))
        # As arrays, which data processes share.
        self._data = np.frombuffer(data, np.uint8)
        self._ends: npt.NDArray[np.int64] = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, index: int) -> str:
        """The text at an index."""
        return self._data[self._ends[index] : self._ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")
