"""The work of data processes: batches of draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import Samples
from tfaip_like.data._loader.sampler import Draw


class MakeBatches:
    """The work of a data process: the batches of some draws."""

    def __init__(self, samples: Samples, stacked: bool):
        self.samples = samples
        self.stacked = stacked
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, draws: list[Draw]) -> Batch:
        """One batch, or several stacked."""
        self.samples.at, self.samples.seconds = self.at, self.seconds
        if not self.stacked:
            (draw,) = draws
            return self.samples.batch(draw)
        if self.samples.is_plain:
            return self.samples.batch(np.concatenate(draws)).cut(len(draws[0]))
        return stacked([self.samples.batch(draw) for draw in draws])

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """The sample that is being made."""
        return self.samples.what_is_made(at)


def stacked(batches: Sequence[Batch]) -> Batch:
    """Batches of one shape as arrays with one more axis in front."""

    def stack(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]

    weights = [batch.weights for batch in batches if batch.weights is not None]
    return Batch(
        {name: stack([batch.inputs[name] for batch in batches]) for name in batches[0].inputs},
        {name: stack([batch.targets[name] for batch in batches]) for name in batches[0].targets},
        stack(weights) if weights else None,
        bad=[bad for batch in batches for bad in batch.bad],
        dropped=[dropped for batch in batches for dropped in batch.dropped],
    )
