"""Concatenation of sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.indexed import IndexedSequence, is_thread_safe


class Mixture(IndexedSequence[Sample]):
    """Concatenation of sources, optionally sampled by weight.

    Args:
        sources: random-access sources.
        weights: relative number of samples drawn from each source, independent of its length, at least 0;
            None to use every sample once.

    Raises:
        UsageError: if the weights do not match the sources.

    Example:
        >>> source = Mixture([["a"], ["b", "c"]], weights=[1, 1])
        >>> source[2], source.sampling_weights.tolist()
        ('c', [1.0, 0.5, 0.5])
    """

    def __init__(self, sources: Sequence[Sequence[Sample]], weights: Sequence[float] | None = None):
        self.sources = list(sources)
        self.ends = np.cumsum([len(source) for source in self.sources])
        self.sampling_weights: FloatArray | None = None
        """Relative sampling weight of each sample; None for uniform sampling."""
        if weights is not None:
            if len(weights) != len(self.sources) or min(weights) < 0 or sum(weights) <= 0:
                raise UsageError(
                    f"Mixture: expected {len(self.sources)} weights (one per source), at least 0 and not all 0, "
                    f"got {list(weights)}"
                )
            parts = [np.full(len(s), weight / max(1, len(s))) for s, weight in zip(sources, weights, strict=True)]
            self.sampling_weights = np.concatenate(parts)

    @property
    def is_thread_safe(self) -> bool:
        """Return whether all sources are thread-safe."""
        return all(map(is_thread_safe, self.sources))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, index: int) -> Sample:
        """Return the sample at an index of the concatenation."""
        number, source_index = self._locate(index)
        return self.sources[number][source_index]

    def describe(self, index: int) -> str:
        """Describe which sample of which source an index refers to."""
        number, source_index = self._locate(index)
        describe = getattr(self.sources[number], "describe", None)
        return describe(source_index) if describe else f"index {source_index} of source {number + 1}"

    def _locate(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self.ends, index, side="right"))
        return number, index - int(self.ends[number - 1] if number else 0)
