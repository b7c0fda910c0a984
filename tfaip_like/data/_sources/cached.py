"""Samples that were made once, and are read again from where they are kept."""

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
    """What StreamProcessors made of the samples of a source, by its index.

    Args:
        source: what it was made of.
        file: the pickled samples, one after another.
        sizes: of each in bytes.
        origins: index in the source of what each was made of.
        sampling_weights: how often each is drawn, relative to the others; None for equally often.
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
        """Describe the samples that it was made of."""
        origin = int(self.origins[index])
        described = getattr(self.source, "describe", None)
        return f"made of sample {origin}{f': {described(origin)}' if described else ''}"
