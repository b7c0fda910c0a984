"""Data source of in-memory arrays."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import with_article
from tfaip_like.data._sample import Arrays, Sample, to_unmasked_array


class RowSource(abc.ABC):
    """Base class of sources that read many samples faster than one by one."""

    @abc.abstractmethod
    def rows(self, indices: Any) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some rows; `indices` is an array."""


class ArraySource(Sequence[Sample]):
    """Data source whose samples are the rows of arrays.

    Batches are sliced from the arrays, without work per sample. Masked floats become NaN.

    Args:
        inputs: arrays by input name, each of shape (N, ...).
        targets: arrays by target name, each of shape (N, ...); None for no targets.

    Raises:
        CodeError: if a value is not a mapping of names to arrays, the arrays differ in their number of rows, or
            values other than floats are masked.

    Example:
        >>> import numpy as np
        >>> source = ArraySource({"x": np.zeros((100, 4))}, {"y": np.arange(100)})
        >>> len(source)
        100
    """

    is_thread_safe = True

    def __init__(self, inputs: Mapping[str, npt.ArrayLike], targets: Mapping[str, npt.ArrayLike] | None = None):
        self.inputs: Arrays = _to_arrays("inputs", inputs)
        self.targets: Arrays = _to_arrays("targets", {} if targets is None else targets)
        lengths = {name: len(array) for name, array in (*self.inputs.items(), *self.targets.items())}
        if len(set(lengths.values())) != 1:
            counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise CodeError(f"ArraySource: arrays differ in their number of rows ({counts or 'no arrays'})")
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice | npt.NDArray[Any]) -> ArraySource: ...

    def __getitem__(self, index: int | slice | npt.NDArray[Any]) -> Sample | ArraySource:
        return self.subset(index) if isinstance(index, (slice, np.ndarray)) else Sample(*self.rows(index))

    def subset(self, indices: Any) -> ArraySource:
        """Return a source of some rows; `indices` is any NumPy index."""
        return ArraySource(*self.rows(indices))

    def rows(self, indices: Any) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some rows; `indices` is any NumPy index."""
        return (
            {name: array[indices] for name, array in self.inputs.items()},
            {name: array[indices] for name, array in self.targets.items()},
        )


def _to_arrays(kind: str, values: Mapping[str, npt.ArrayLike]) -> Arrays:
    if not isinstance(values, Mapping):
        got = with_article(type(values).__name__)
        raise CodeError(f"ArraySource({kind}=...): expected named arrays, {{'name': array}}, got {got}")
    return {name: _to_array(name, array) for name, array in values.items()}


def _to_array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = to_unmasked_array(value)
    except ValueError as error:
        raise CodeError(f"array {name!r} {error}") from error
    if array.ndim == 0:
        raise CodeError(f"array {name!r} is a scalar; its first axis must be the sample axis")
    return array
