"""Cross-validation splits of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.indexed import IndexedSequence, is_thread_safe


class Subset(IndexedSequence[Sample]):
    """Random-access subset of a source.

    Args:
        source: source to select from.
        indices: positions in the source, shape (N,).
        keep_weights: keep the sampling weights of the source, if it has any.
    """

    def __init__(self, source: Sequence[Sample], indices: npt.NDArray[np.int64], keep_weights: bool):
        self.source = source
        self.indices = indices
        weights: FloatArray | None = getattr(source, "sampling_weights", None) if keep_weights else None
        self.sampling_weights = None if weights is None else weights[indices]
        """Relative sampling weight of each sample; None for uniform sampling."""

    @property
    def is_thread_safe(self) -> bool:
        """Return whether the source is thread-safe."""
        return is_thread_safe(self.source)

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, index: int) -> Sample:
        """Return the sample at an index of the subset."""
        return self.source[int(self.indices[index])]

    def describe(self, index: int) -> str:
        """Describe which sample of the source it is."""
        source_index = int(self.indices[index])
        describe = getattr(self.source, "describe", None)
        return str(describe(source_index)) if describe else f"index {source_index} of the source"


def cross_validation_split(source: object, folds: int, fold: int, held_out: bool) -> Sequence[Sample]:
    """Return one fold of a source, or its complement.

    The folds are equally large and random, but do not depend on the seed of a training.

    Args:
        source: random-access source.
        folds: number of folds, at least 2.
        fold: number of the fold, from 1.
        held_out: return the fold itself (validation) instead of all other samples (training).

    Raises:
        UsageError: if the source is not random-access, or has fewer samples than folds.
    """
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise UsageError(
            f"--train.folds {folds} requires a random-access source (with __len__ and __getitem__); "
            f"{type(source).__name__} is iterable-only"
        )
    samples = cast(Sequence[Sample], source)
    if len(samples) < folds:
        raise UsageError(f"--train.folds {folds} exceeds the number of samples ({len(samples)})")
    fold_of_sample = np.random.default_rng(0).permutation(len(samples)) % folds
    indices = np.flatnonzero((fold_of_sample == fold - 1) == held_out)
    return samples[indices] if isinstance(samples, ArraySource) else Subset(samples, indices, keep_weights=not held_out)
