"""Cross-validation: one part of the samples is kept for validation, another one in each training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.indexed import IndexedSequence


class Subset(IndexedSequence[Sample]):
    """Some samples of a source.

    Args:
        indices: theirs in the source.
        keep_weights: by the weights that the source draws with, if it has any.
    """

    def __init__(self, source: Sequence[Sample], indices: npt.NDArray[np.int64], keep_weights: bool):
        self.source = source
        self.indices = indices
        weights: FloatArray | None = getattr(source, "sampling_weights", None) if keep_weights else None
        self.sampling_weights = None if weights is None else weights[indices]
        """How often each sample is drawn, relative to the others."""

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, index: int) -> Sample:
        """The sample at an index of the part."""
        return self.source[int(self.indices[index])]

    def describe(self, index: int) -> str:
        """Which sample of the source it is."""
        place = int(self.indices[index])
        described = getattr(self.source, "describe", None)
        return str(described(place)) if described else f"number {place} of all"


def cross_validation_split(source: object, folds: int, fold: int, held_out: bool) -> Sequence[Sample]:
    """The samples of one of `folds` parts, or all others.

    The parts are of one size and drawn at random, always the same ones, whatever the seed of a training.

    Args:
        fold: from 1.
        held_out: whether the part itself is wanted.

    Raises:
        UsageError: when the samples have no index, or are fewer than the parts.
    """
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise UsageError(f"--train.folds {folds}: the samples have no length and index, so they cannot be divided")
    samples = cast(Sequence[Sample], source)
    if len(samples) < folds:
        raise UsageError(f"--train.folds {folds}: there are only {len(samples)} samples")
    part = np.random.default_rng(0).permutation(len(samples)) % folds
    indices = np.flatnonzero((part == fold - 1) == held_out)
    return samples[indices] if isinstance(samples, ArraySource) else Subset(samples, indices, keep_weights=not held_out)
