"""Filling a cache: samples are made in parallel, as far as their processing is not random."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, counted
from tfaip_like.data._loader.batching import BadSample, name_sample
from tfaip_like.data._loader.cache import Cache
from tfaip_like.data._loader.dropped import Dropped
from tfaip_like.data._loader.randomness import WatchedRandomness
from tfaip_like.data._loader.sample_reader import Samples
from tfaip_like.data._settings import DataSettings
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.parallel_map import in_parts

logger = logging.getLogger(__name__)

SAMPLES_TRIED = 100


class FillCache:
    """The work of filling a cache: pickled samples for their indices."""

    def __init__(self, samples: Samples, stages: int):
        self.samples = copy.copy(samples)
        self.samples.random = self.random = WatchedRandomness()
        self.samples.dropped = []
        self.stages = stages
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, indices: npt.NDArray[np.int64]) -> list[bytes | BadSample | Dropped]:
        """Return for each index its sample, or why it is bad or dropped."""
        self.samples.at, self.samples.seconds = self.at, self.seconds
        return [self._made(index) for index in indices.tolist()]

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """The sample that is being made."""
        return self.samples.what_is_made(at)

    def _made(self, index: int) -> bytes | BadSample | Dropped:
        self.at[:] = (0, index, 0, 0, self.at[4] + 1)
        self.random.forget()
        try:
            sample = self.samples.processed(self.samples.raw(index), (0, index, 0), end=self.stages)
        except Exception as error:
            if self.samples.data.on_bad_sample == "skip":
                return BadSample(index, self.samples.place(index), f"{type(error).__name__}: {error}")
            name_sample(error, self.samples.place(index))
            raise
        if (stage := self.random.first_user()) is not None:
            raise UsageError(
                f"cache: {self.samples.stages[stage]} used its random generator for {self.samples.place(index)}, "
                "though not for the first samples; what it makes cannot be kept, so turn the cache off"
            )
        return self.samples.take_dropped()[-1] if sample is None else pickle.dumps(sample, protocol=5)


def fill_cache(
    samples: Samples, settings: DataSettings, group: str, check: Callable[[], None], stages: int | None = None
) -> Cache:
    """Make the samples that are used, as far as their processing is not random.

    Args:
        group: of the flags: for messages.
        check: called while waiting; raises to stop.
        stages: number of processors whose results are kept; by default those before the first random one.
    """
    place: Literal["memory", "disk"] = "memory" if settings.cache == "memory" else "disk"
    if stages is None:
        stages = call_in_thread(lambda: stages_without_randomness(samples), check)
    cache = Cache(place, len(samples.source), stages)
    title = f"caching --{group} samples"
    for indices, made in in_parts(FillCache(samples, stages), samples.indices, settings, title, check):
        for index, item in zip(indices.tolist(), made, strict=True):
            cache.add(index, item)
    logger.info(
        "--%s.cache %s: %s, %.3g MB, after %d of %d processors",
        group,
        place,
        counted(len(samples.indices), "sample"),
        cache.nbytes() / 1e6,
        stages,
        len(samples.processors),
    )
    return cache


def stages_without_randomness(samples: Samples) -> int:
    """How many of the first processors do not use their random generator, as seen on the first good sample."""
    watched = copy.copy(samples)
    watched.random = random = WatchedRandomness()
    watched.dropped = []
    for index in samples.indices[:SAMPLES_TRIED].tolist():
        random.forget()
        try:
            made = watched.processed(watched.raw(index), (0, index, 0))
        except Exception as error:
            if samples.data.on_bad_sample == "raise":
                name_sample(error, samples.place(index))
                raise
            continue
        if (stage := random.first_user()) is not None:
            return stage - 1
        if made is not None:
            return len(samples.processors)
    return 0
