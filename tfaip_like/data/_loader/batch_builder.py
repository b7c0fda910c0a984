"""Worker function that builds batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sampler import SampleRows


class BatchBuilder:
    """Worker function from sample rows to batches.

    Args:
        samples: reader of the samples.
        stacked: stack the batches of a task along a new first axis.
        new_stack: returns the arrays to write a stack to, if the samples are array-backed; None to make new ones.
    """

    def __init__(self, samples: SampleReader, stacked: bool, new_stack: Callable[[], Batch] | None = None):
        self.samples = samples
        self.stacked = stacked
        self.new_stack = new_stack
        self.progress = samples.progress
        self.seconds = samples.seconds

    def __call__(self, draws: Sequence[SampleRows]) -> Batch:
        """Return the batch of a single draw, or the stacked batches of several."""
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        if not self.stacked:
            (draw,) = draws
            return self.samples.batch(draw)
        if self.new_stack is not None:
            return self.samples.slice_steps(np.stack(draws), self.new_stack())
        if self.samples.is_array_backed:
            return self.samples.batch(np.concatenate(draws)).split_into_steps(len(draws[0]))
        return stack_batches([self.samples.batch(draw) for draw in draws])

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being processed."""
        return self.samples.describe_progress(progress)


def stack_batches(batches: Sequence[Batch]) -> Batch:
    """Stack batches of equal shape along a new first axis."""

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
