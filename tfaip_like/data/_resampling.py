"""How often each sample is drawn: by a distribution of a target, or all classes equally."""

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
    """A distribution that a target shall have, as masses of buckets of equal width."""

    target: str
    """The target (or input) whose distribution it is."""

    component: int | None = None
    """Which number of it, where it is an array."""

    n_buckets: int = 20
    """Number of buckets between the bounds."""

    inf_bounds: bool = False
    """Let the first and the last bucket reach to infinity; without, samples beyond the bounds are never drawn."""

    def check(self) -> None:
        self.require(self.n_buckets >= 1, "n_buckets", "must be at least 1")

    @abc.abstractmethod
    def bounds(self, values: FloatArray) -> tuple[float, float]:
        """Where the buckets begin and end."""

    @abc.abstractmethod
    def masses(self, edges: FloatArray, values: FloatArray) -> FloatArray:
        """The part of the distribution in each bucket, as any multiples of it."""

    def edges(self, values: FloatArray) -> FloatArray:
        """The edges of the buckets, the outer ones infinite if `inf_bounds`."""
        low, high = self.bounds(values)
        if not low < high:
            raise UsageError(f"resample: {self.target!r} has no spread to resample (from {low:g} to {high:g})")
        edges = np.linspace(low, high, self.n_buckets + 1)
        if self.inf_bounds:
            edges[0], edges[-1] = -math.inf, math.inf
        return edges

    def weights(self, values: FloatArray) -> FloatArray:
        """How often to draw each sample, as probabilities, so that their values have the distribution."""
        values = np.asarray(values, dtype=np.float64)
        edges = self.edges(values)
        # The last bucket holds its upper edge too, as in numpy's histogram.
        bucket = np.searchsorted(edges, values, side="right") - 1
        bucket[values == edges[-1]] = self.n_buckets - 1
        inside = (bucket >= 0) & (bucket < self.n_buckets)
        if not inside.any():
            raise UsageError(f"resample: no value of {self.target!r} lies between the bounds")
        counts = np.bincount(bucket[inside], minlength=self.n_buckets)
        if empty := int((counts == 0).sum()):
            logger.warning("resample: %d of %d buckets of %r are empty", empty, self.n_buckets, self.target)
        masses = np.where(counts > 0, self.masses(edges, values), 0.0)
        weights = np.zeros(len(values))
        weights[inside] = (masses / np.maximum(counts, 1))[bucket[inside]]
        return normalize_weights(weights)


class Uniform(Resample):
    """Every bucket equally often."""

    low: float | None = None
    """Where the buckets begin; by default at the least value."""

    high: float | None = None
    """Where they end; by default at the greatest value."""

    def bounds(self, values: FloatArray) -> tuple[float, float]:
        low = float(values.min()) if self.low is None else self.low
        return low, float(values.max()) if self.high is None else self.high

    def masses(self, edges: FloatArray, values: FloatArray) -> FloatArray:
        return np.ones(self.n_buckets)


class Normal(Resample):
    """A normal distribution, cut where the buckets end."""

    mean: float | None = None
    """Its mean; by default that of the samples."""

    std: float | None = None
    """Its standard deviation; by default that of the samples."""

    reach: float = 3.0
    """How many standard deviations the buckets reach from the mean."""

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
    """n_total / (n_classes * n_in_class) for each class: what makes all of them count the same."""
    names, counts = np.unique(classes, return_counts=True)
    return class_weights_from_counts(dict(zip(names.tolist(), counts.tolist(), strict=True)))


def class_weights_from_counts(counts: Mapping[Any, int]) -> Mapping[Any, float]:
    """Return n_total / (n_classes * n_in_class) for each class, from its number of samples."""
    total = sum(counts.values())
    return {name: total / (len(counts) * count) for name, count in counts.items()}


def class_balanced_probabilities(classes: npt.NDArray[Any], base: FloatArray | None = None) -> FloatArray:
    """Probabilities with which all classes are drawn equally often; within a class as in `base`."""
    _, number = np.unique(classes, return_inverse=True)
    base = np.ones(len(classes)) if base is None else base
    of_class = np.bincount(number, weights=base)
    return normalize_weights(base / np.maximum(of_class, np.finfo(float).tiny)[number])


def normalize_weights(weights: npt.ArrayLike) -> FloatArray:
    """Weights with the sum 1."""
    array: FloatArray = np.asarray(weights, dtype=np.float64)
    weights_of_one: FloatArray = array / array.sum()
    return weights_of_one
