"""What all sources with an index have in common."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TypeVar, overload

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
