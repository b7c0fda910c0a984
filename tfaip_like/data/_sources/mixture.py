"""Several sources as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.indexed import IndexedSequence


class Mixture(IndexedSequence[Sample]):
    """Sources one after another; drawn from by weight, if weights are given.

    Args:
        weights: for each source, how often its samples are drawn in all, whatever its length.

    Raises:
        UsageError: when the weights do not fit the sources.
    """

    def __init__(self, sources: Sequence[Sequence[Sample]], weights: Sequence[float] | None = None):
        self.sources = list(sources)
        self.ends = np.cumsum([len(source) for source in self.sources])
        self.sampling_weights: FloatArray | None = None
        """How often each sample is drawn, relative to the others."""
        if weights is not None:
            if len(weights) != len(self.sources) or min(weights) < 0 or sum(weights) <= 0:
                raise UsageError(
                    f"a mixture of {len(self.sources)} sources needs as many weights, none below 0, got {list(weights)}"
                )
            parts = [np.full(len(s), weight / max(1, len(s))) for s, weight in zip(sources, weights, strict=True)]
            self.sampling_weights = np.concatenate(parts)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, index: int) -> Sample:
        """The sample at an index of the whole."""
        number, place = self._locate(index)
        return self.sources[number][place]

    def describe(self, index: int) -> str:
        """Which sample of which source an index is."""
        number, place = self._locate(index)
        described = getattr(self.sources[number], "describe", None)
        return described(place) if described else f"number {place} of source {number + 1}"

    def _locate(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self.ends, index, side="right"))
        return number, index - int(self.ends[number - 1] if number else 0)
