"""Worker function that builds batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tfaip_like.data._loader.array_slices import slice_steps
from tfaip_like.data._loader.batching import Batch, allocate_stack
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
        self.allocate = samples.allocate

    def __call__(self, draws: Sequence[SampleRows]) -> Batch:
        """Return the batch of a single draw, or the stacked batches of several."""
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        self.samples.allocate = self.allocate
        if not self.stacked:
            (draw,) = draws
            return self.samples.batch(draw)
        if self.new_stack is not None:
            return slice_steps(self.samples, np.stack(draws), self.new_stack())
        if (joined := self.samples.read_rows(np.concatenate(draws))) is not None:
            return joined.split_into_steps(len(draws[0]))
        samples = self.samples
        stack = allocate_stack(len(draws), len(draws[0]), samples.inputs, samples.targets, self.allocate)
        batches = [samples.batch(draw, out) for draw, out in zip(draws, stack.unstack(), strict=True)]
        return stack.with_metadata(batches)

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being processed."""
        return self.samples.describe_progress(progress)
