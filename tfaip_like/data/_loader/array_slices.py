"""Batches of array-backed samples: slices of the arrays, without work per sample."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sampler import INDEX, SampleRows
from tfaip_like.data._sources.arrays import ArraySource


def slice_steps(samples: SampleReader, draws: SampleRows, out: Batch) -> Batch:
    """Write the batches of draws to the first rows of preallocated stacks, and return those rows.

    Only if `is_array_backed`.

    Args:
        samples: reader of the samples.
        draws: rows of several draws, shape (steps, batch, 3).
        out: arrays of shape (at least steps, batch, ...).
    """
    assert isinstance(samples.source, ArraySource)
    begin = time.perf_counter()
    indices, stack = draws[..., INDEX], out.rows(0, len(draws))
    for named, specs, written in (
        (samples.source.inputs, samples.inputs, stack.inputs),
        (samples.source.targets, samples.targets, stack.targets),
    ):
        for name in specs:
            _take_rows(named[name], indices, written[name])
    if samples.loss_weights is not None:
        assert stack.weights is not None
        _take_rows(samples.loss_weights, indices, stack.weights)
    samples.seconds[-1] += time.perf_counter() - begin
    return stack


def _take_rows(array: npt.NDArray[Any], indices: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
    """Write the rows of an array to `out`, of shape (*indices.shape, ...)."""
    # np.take would copy an array of another layout as a whole; with another mode than "clip" it writes to a buffer.
    if array.dtype == out.dtype and array.flags.c_contiguous and array.flags.aligned:
        np.take(array, indices, axis=0, out=out, mode="clip")
    else:
        out[...] = array[indices]
