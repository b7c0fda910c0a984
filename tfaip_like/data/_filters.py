"""Conditions for a sample to be used."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Sample
from tfaip_like.params import Params

if TYPE_CHECKING:
    from tfaip_like.data._sources.arrays import ArraySource


class Filter(Params, abc.ABC):
    """A condition for a sample to be used; sees it as the source gives it, before any processor."""

    @abc.abstractmethod
    def keep(self, sample: Sample) -> bool:
        """Return whether the sample is used."""

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        """The same for all rows of arrays; write it with numpy where there are many."""
        return np.array([self.keep(sample) for sample in source], dtype=bool)


class RangeFilter(Filter):
    """Keeps samples with a value in a range, both ends included."""

    name: str
    """The input or target (or entry of meta) that is looked at."""

    component: int | None = None
    """Which number of it, where it is an array."""

    low: float = float("-inf")
    """The least value."""

    high: float = float("inf")
    """The greatest value."""

    def check(self) -> None:
        self.require(self.low <= self.high, "low", "must not be above high")

    def keep(self, sample: Sample) -> bool:
        return bool(self._is_in_range(get_value(sample, self.name, self.component)))

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = self._is_in_range(get_column(source, self.name, self.component))
        return kept

    def _is_in_range(self, values: Any) -> Any:
        return (values >= self.low) & (values <= self.high)


class ValueFilter(Filter):
    """Keeps samples whose value is one of those given."""

    name: str
    """The input or target (or entry of meta) that is looked at."""

    values: list[str]
    """The values, as they are written in decimal or as text."""

    def keep(self, sample: Sample) -> bool:
        return str(get_value(sample, self.name, None)) in self.values

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = np.isin(get_column(source, self.name, None).astype(str), self.values)
        return kept


def get_value(sample: Sample, name: str, component: int | None) -> Any:
    """A number (or text) of a sample, by the name of its target, input or entry of meta.

    Raises:
        UsageError: when there is none of this name, or it is an array and no component is given.
    """
    for values in (sample.targets, sample.inputs, sample.meta):
        if name in values:
            array = np.asarray(values[name])
            return _select_component(array, name, component, axes=0)[()]
    raise UsageError(f"a sample has no {name!r}; it has {', '.join((*sample.inputs, *sample.targets, *sample.meta))}")


def get_column(source: ArraySource, name: str, component: int | None) -> npt.NDArray[Any]:
    """The same of all rows of arrays."""
    for arrays in (source.targets, source.inputs):
        if name in arrays:
            return _select_component(arrays[name], name, component, axes=1)
    raise UsageError(f"the source has no {name!r}; it has {', '.join((*source.inputs, *source.targets))}")


def _select_component(array: npt.NDArray[Any], name: str, component: int | None, axes: int) -> npt.NDArray[Any]:
    if component is not None and array.ndim > axes:
        if not 0 <= component < array.shape[-1]:
            raise UsageError(f"{name!r} has the components 0 to {array.shape[-1] - 1}, not {component}")
        array = array[..., component]
    if array.ndim != axes:
        raise UsageError(f"{name!r} has shape {array.shape[axes:]}; say which component of it is meant")
    return array
