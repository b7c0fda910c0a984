"""Samples that are rows of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import with_article
from tfaip_like.data._sample import Arrays, Sample, to_unmasked_array


class ArraySource(Sequence[Sample]):
    """Samples whose named arrays are the rows of larger arrays.

    Batches are cut out of the arrays as a whole, without work per sample. Masked floats are NaN.

    Raises:
        CodeError: when they are no named arrays, differ in their number of rows, or mask other values than floats.
    """

    def __init__(self, inputs: Mapping[str, npt.ArrayLike], targets: Mapping[str, npt.ArrayLike] | None = None):
        self.inputs: Arrays = _to_arrays("inputs", inputs)
        self.targets: Arrays = _to_arrays("targets", {} if targets is None else targets)
        lengths = {name: len(array) for name, array in (*self.inputs.items(), *self.targets.items())}
        if len(set(lengths.values())) != 1:
            counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise CodeError(f"the arrays of a source differ in their number of rows ({counts or 'no arrays'})")
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
        """Return some rows as a source, by anything that numpy can index with."""
        return ArraySource(*self.rows(indices))

    def rows(self, indices: Any) -> tuple[Arrays, Arrays]:
        """Inputs and targets of some rows, by anything that numpy can index with."""
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
        raise CodeError(f"the array {name!r} {error}") from error
    if array.ndim == 0:
        raise CodeError(f"the array {name!r} is a single value; its first axis must be that of the samples")
    return array
