"""Filters that select samples."""

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
    """Base class of filters, which are applied to unprocessed samples.

    Example:
        >>> class HasText(Filter):
        ...     def keep(self, sample):
        ...         return bool(sample.meta.get("text"))
        >>> HasText().keep(Sample(meta={"text": "abc"}))
        True
    """

    @abc.abstractmethod
    def keep(self, sample: Sample) -> bool:
        """Return whether to use a sample."""

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        """Return the mask of rows to use, shape (N,); override it with NumPy operations for speed."""
        return np.array([self.keep(sample) for sample in source], dtype=bool)


class RangeFilter(Filter):
    """Filter that keeps samples with a value in a closed range.

    Example:
        >>> RangeFilter(name="energy", low=1, high=10).keep(Sample({"energy": 12.0}))
        False
    """

    name: str
    """Name of an input, target or meta entry."""

    component: int | None = None
    """Index in the last axis of an array; None for scalars."""

    low: float = float("-inf")
    """Smallest accepted value."""

    high: float = float("inf")
    """Largest accepted value."""

    def check(self) -> None:
        self.require(self.low <= self.high, "low", "must not be above high")

    def keep(self, sample: Sample) -> bool:
        return bool(self._is_in_range(get_value(sample, self.name, self.component)))

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = self._is_in_range(get_column(source, self.name, self.component))
        return mask

    def _is_in_range(self, values: Any) -> Any:
        return (values >= self.low) & (values <= self.high)


class ValueFilter(Filter):
    """Filter that keeps samples whose value is in a list.

    Example:
        >>> ValueFilter(name="label", values=["3", "7"]).keep(Sample(targets={"label": 7}))
        True
    """

    name: str
    """Name of an input, target or meta entry."""

    values: list[str]
    """Accepted values, as decimal numbers or text."""

    def keep(self, sample: Sample) -> bool:
        return str(get_value(sample, self.name, None)) in self.values

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = np.isin(get_column(source, self.name, None).astype(str), self.values)
        return mask


def get_value(sample: Sample, name: str, component: int | None) -> Any:
    """Return a number or text of a sample.

    Args:
        sample: unprocessed sample.
        name: name of a target, input or meta entry, searched in this order.
        component: index in the last axis of an array; None for scalars.

    Raises:
        UsageError: if there is no such name or component, or the value is an array and `component` is None.
    """
    for values in (sample.targets, sample.inputs, sample.meta):
        if name in values:
            array = np.asarray(values[name])
            return _select_component(array, name, component, axes=0)[()]
    raise UsageError(
        f"samples have no {name!r}; available: {', '.join((*sample.inputs, *sample.targets, *sample.meta))}"
    )


def get_column(source: ArraySource, name: str, component: int | None) -> npt.NDArray[Any]:
    """Return the values of all rows of arrays, shape (N,); see `get_value`."""
    for arrays in (source.targets, source.inputs):
        if name in arrays:
            return _select_component(arrays[name], name, component, axes=1)
    raise UsageError(f"the source has no {name!r}; available: {', '.join((*source.inputs, *source.targets))}")


def _select_component(array: npt.NDArray[Any], name: str, component: int | None, axes: int) -> npt.NDArray[Any]:
    if component is not None and array.ndim > axes:
        if not 0 <= component < array.shape[-1]:
            raise UsageError(f"component {component} of {name!r} is out of range (0 to {array.shape[-1] - 1})")
        array = array[..., component]
    if array.ndim != axes:
        raise UsageError(f"{name!r} has shape {array.shape[axes:]}; set component to select a scalar")
    return array
