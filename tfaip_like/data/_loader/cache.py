"""Storage of the sample cache."""

from __future__ import annotations

import pickle
from typing import Literal

import numpy as np

from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._sample import Sample
from tfaip_like.data._workers.shared_memory import SharedFile


class SampleCache:
    """Cache of partially processed samples, by index, in a file shared by all processes.

    Args:
        place: store the file in memory or on disk.
        length: number of samples of the source.
        stages: number of processors applied to the cached samples.

    Attributes:
        bad: samples whose processing failed.
        dropped: samples that processors dropped.
    """

    def __init__(self, place: Literal["memory", "disk"], length: int, stages: int):
        self.file = SharedFile.in_memory() if place == "memory" else SharedFile.on_disk()
        self.stages = stages
        self.begins = np.full(length, -1, np.int64)
        self.sizes = np.zeros(length, np.int64)
        self.bad: list[BadSample] = []
        self.dropped: list[DroppedSample] = []
        self._end = 0

    def add(self, index: int, data: bytes | BadSample | DroppedSample) -> None:
        """Store a pickled sample, or the reason why it is bad or dropped."""
        if isinstance(data, BadSample):
            self.bad.append(data)
        elif isinstance(data, DroppedSample):
            self.dropped.append(data)
        else:
            self.begins[index], self.sizes[index] = self._end, len(data)
            self.file.write(data)
            self._end += len(data)

    def read(self, index: int) -> Sample | None:
        """Return the sample at an index; None if it is bad or dropped."""
        begin, size = int(self.begins[index]), int(self.sizes[index])
        if begin < 0:
            return None
        sample: Sample = pickle.loads(self.file.view(begin + size)[begin:])  # noqa: S301  (our own)
        return sample

    def nbytes(self) -> int:
        """Return the size of the cached samples in bytes."""
        return self._end
