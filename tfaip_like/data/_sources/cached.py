"""Data source of cached samples."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.indexed import IndexedSequence
from tfaip_like.data._workers.shared_memory import SharedFile


class CachedStreamSource(IndexedSequence[Sample]):
    """Random-access source of the cached results of StreamProcessors.

    Args:
        source: original source.
        file: the pickled samples, concatenated.
        sizes: size of each pickled sample in bytes, shape (N,).
        origins: index in the original source that each sample was made from, shape (N,).
        sampling_weights: relative sampling weight of each sample, shape (N,); None for uniform sampling.
    """

    def __init__(
        self,
        source: Sequence[Sample],
        file: SharedFile,
        sizes: npt.NDArray[np.int64],
        origins: npt.NDArray[np.int64],
        sampling_weights: FloatArray | None,
    ):
        self.source = source
        self.file = file
        self.ends = np.cumsum(sizes)
        self.sizes = sizes
        self.origins = origins
        self.sampling_weights = sampling_weights

    def __len__(self) -> int:
        return len(self.sizes)

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        end = int(self.ends[index])
        sample: Sample = pickle.loads(self.file.view(end)[end - int(self.sizes[index]) :])  # noqa: S301  (our own)
        return sample

    def describe(self, index: int) -> str:
        """Describe the original sample that a sample was made from."""
        origin = int(self.origins[index])
        describe = getattr(self.source, "describe", None)
        return f"from sample {origin}{f': {describe(origin)}' if describe else ''}"
