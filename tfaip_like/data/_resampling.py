"""Sampling weights: resampling to a target distribution, and class balancing."""

from __future__ import annotations

import abc
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.params import Params

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]


class Resample(Params, abc.ABC):
    """Base class of target distributions for resampling, given as probability mass per equal-width bucket.

    A subclass implements `bounds` and `masses`.

    Example:
        >>> Uniform(target="y", n_buckets=2).weights(np.array([0.0, 0.1, 1.0])).tolist()
        [0.25, 0.25, 0.5]
    """

    target: str
    """Name of the target (or input) to resample."""

    component: int | None = None
    """Index in the last axis of an array; None for scalars."""

    n_buckets: int = 20
    """Number of buckets between the bounds."""

    inf_bounds: bool = False
    """Extend the outer buckets to infinity; by default samples outside the bounds are never drawn."""

    def check(self) -> None:
        self.require(self.n_buckets >= 1, "n_buckets", "must be at least 1")

    @abc.abstractmethod
    def bounds(self, values: FloatArray) -> tuple[float, float]:
        """Return the lower edge of the first and the upper edge of the last bucket; `values` has shape (N,)."""

    @abc.abstractmethod
    def masses(self, edges: FloatArray, values: FloatArray) -> FloatArray:
        """Return the unnormalized probability mass of each bucket, shape (n_buckets,).

        Args:
            edges: bucket edges, shape (n_buckets + 1,).
            values: values of all samples, shape (N,).
        """

    def edges(self, values: FloatArray) -> FloatArray:
        """Return the bucket edges, shape (n_buckets + 1,); the outer ones are infinite if `inf_bounds`."""
        low, high = self.bounds(values)
        if not low < high:
            raise UsageError(f"resample: {self.target!r} has an empty value range ({low:g} to {high:g})")
        edges = np.linspace(low, high, self.n_buckets + 1)
        if self.inf_bounds:
            edges[0], edges[-1] = -math.inf, math.inf
        return edges

    def weights(self, values: FloatArray) -> FloatArray:
        """Return the sampling probability of each sample, shape (N,), that yields the distribution."""
        values = np.asarray(values, dtype=np.float64)
        edges = self.edges(values)
        # The last bucket includes its upper edge, as in numpy.histogram.
        bucket = np.searchsorted(edges, values, side="right") - 1
        bucket[values == edges[-1]] = self.n_buckets - 1
        inside = (bucket >= 0) & (bucket < self.n_buckets)
        if not inside.any():
            raise UsageError(f"resample: no value of {self.target!r} is within the bounds")
        counts = np.bincount(bucket[inside], minlength=self.n_buckets)
        if empty := int((counts == 0).sum()):
            logger.warning("resample: %d of %d buckets of %r are empty", empty, self.n_buckets, self.target)
        masses = np.where(counts > 0, self.masses(edges, values), 0.0)
        weights = np.zeros(len(values))
        weights[inside] = (masses / np.maximum(counts, 1))[bucket[inside]]
        return normalize_weights(weights)


class Uniform(Resample):
    """Uniform target distribution.

    Example:
        >>> Uniform(target="y", low=0, high=1).bounds(np.array([0.2, 0.4]))
        (0, 1)
    """

    low: float | None = None
    """Lower edge of the first bucket; by default the minimum of the values."""

    high: float | None = None
    """Upper edge of the last bucket; by default the maximum of the values."""

    def bounds(self, values: FloatArray) -> tuple[float, float]:
        low = float(values.min()) if self.low is None else self.low
        return low, float(values.max()) if self.high is None else self.high

    def masses(self, edges: FloatArray, values: FloatArray) -> FloatArray:
        return np.ones(self.n_buckets)


class Normal(Resample):
    """Truncated normal target distribution.

    Example:
        >>> Normal(target="y", mean=0, std=1).bounds(np.array([0.2, 0.4]))
        (-3.0, 3.0)
    """

    mean: float | None = None
    """Mean; by default the mean of the samples."""

    std: float | None = None
    """Standard deviation, above 0; by default that of the samples."""

    reach: float = 3.0
    """Distance of the bounds from the mean in standard deviations, above 0."""

    def check(self) -> None:
        super().check()
        self.require(self.std is None or self.std > 0, "std", "must be above 0")
        self.require(self.reach > 0, "reach", "must be above 0")

    def bounds(self, values: FloatArray) -> tuple[float, float]:
        mean, std = self._moments(values)
        return mean - self.reach * std, mean + self.reach * std

    def masses(self, edges: FloatArray, values: FloatArray) -> FloatArray:
        mean, std = self._moments(values)
        return np.diff([0.5 * (1 + math.erf((edge - mean) / (std * math.sqrt(2)))) for edge in edges])

    def _moments(self, values: FloatArray) -> tuple[float, float]:
        mean = float(values.mean()) if self.mean is None else self.mean
        return mean, float(values.std()) if self.std is None else self.std


def compute_class_weights(classes: npt.NDArray[Any]) -> Mapping[Any, float]:
    """Return the weight n_total / (n_classes * n_in_class) of each class, from the class of each sample."""
    names, counts = np.unique(classes, return_counts=True)
    return class_weights_from_counts(dict(zip(names.tolist(), counts.tolist(), strict=True)))


def class_weights_from_counts(counts: Mapping[Any, int]) -> Mapping[Any, float]:
    """Return the weight n_total / (n_classes * n_in_class) of each class, from its number of samples."""
    total = sum(counts.values())
    return {name: total / (len(counts) * count) for name, count in counts.items()}


def class_balanced_probabilities(classes: npt.NDArray[Any], base: FloatArray | None = None) -> FloatArray:
    """Return sampling probabilities, shape (N,), with which all classes are drawn equally often.

    Args:
        classes: class of each sample, shape (N,).
        base: relative sampling weight of each sample within its class, shape (N,); None for uniform.
    """
    _, number = np.unique(classes, return_inverse=True)
    base = np.ones(len(classes)) if base is None else base
    class_sums = np.bincount(number, weights=base)
    return normalize_weights(base / np.maximum(class_sums, np.finfo(float).tiny)[number])


def normalize_weights(weights: npt.ArrayLike) -> FloatArray:
    """Scale weights to a sum of 1."""
    array: FloatArray = np.asarray(weights, dtype=np.float64)
    normalized: FloatArray = array / array.sum()
    return normalized
