"""Construction of the sample cache by data workers, up to the first random processor."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like.data._loader.batching import BadSample, add_sample_note
from tfaip_like.data._loader.cache import SampleCache
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.randomness import RngUsageDetector
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._settings import LoaderSettings
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.parallel_map import map_in_chunks

logger = logging.getLogger(__name__)

MAX_PROBED_SAMPLES = 100


class CacheBuilder:
    """Worker function from indices to pickled samples.

    Args:
        samples: reader of the samples.
        stages: number of processors to apply.
    """

    def __init__(self, samples: SampleReader, stages: int):
        self.samples = copy.copy(samples)
        self.samples.random = self.random = RngUsageDetector()
        self.samples.dropped = []
        self.stages = stages
        self.progress = samples.progress
        self.seconds = samples.seconds

    def __call__(self, indices: npt.NDArray[np.int64]) -> list[bytes | BadSample | DroppedSample]:
        """Return the pickled sample of each index, or the reason why it is bad or dropped."""
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        return [self._make(index) for index in indices.tolist()]

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being processed."""
        return self.samples.describe_progress(progress)

    def _make(self, index: int) -> bytes | BadSample | DroppedSample:
        self.progress[:] = (0, index, 0, 0, self.progress[4] + 1)
        self.random.reset()
        try:
            sample = self.samples.apply_processors(self.samples.read_source(index), (0, index, 0), end=self.stages)
        except Exception as error:
            if self.samples.data.on_bad_sample == "skip":
                return BadSample(index, self.samples.describe_sample(index), f"{type(error).__name__}: {error}")
            add_sample_note(error, self.samples.describe_sample(index))
            raise
        if (stage := self.random.first_stage_using_rng()) is not None:
            raise UsageError(
                f"cache: {self.samples.stages[stage]} is not deterministic: it used its random generator on "
                f"{self.samples.describe_sample(index)}, but not on the first samples; disable the cache"
            )
        return self.samples.pop_dropped()[-1] if sample is None else pickle.dumps(sample, protocol=5)


def fill_cache(
    samples: SampleReader, settings: LoaderSettings, group: str, check: Callable[[], None], stages: int | None = None
) -> SampleCache:
    """Build the cache of the selected samples.

    Args:
        samples: reader of the samples.
        settings: cache location and number of workers.
        group: flag group such as `train`, for messages.
        check: called while waiting; raises to stop.
        stages: number of processors whose results are cached; by default those before the first random one.
    """
    place: Literal["memory", "disk"] = "memory" if settings.cache == "memory" else "disk"
    if stages is None:
        stages = call_in_thread(lambda: count_deterministic_stages(samples), check)
    cache = SampleCache(place, len(samples.source), stages)
    title = f"caching --{group} samples"
    for indices, results in map_in_chunks(CacheBuilder(samples, stages), samples.indices, settings, title, check):
        for index, result in zip(indices.tolist(), results, strict=True):
            cache.add(index, result)
    logger.info(
        "--%s.cache %s: cached %s (%.3g MB) after the first %d of %d processors",
        group,
        place,
        pluralize(len(samples.indices), "sample"),
        cache.nbytes() / 1e6,
        stages,
        len(samples.processors),
    )
    return cache


def count_deterministic_stages(samples: SampleReader) -> int:
    """Return the number of leading processors that do not use their random generator on the first good sample."""
    watched = copy.copy(samples)
    watched.random = random = RngUsageDetector()
    watched.dropped = []
    for index in samples.indices[:MAX_PROBED_SAMPLES].tolist():
        random.reset()
        try:
            sample = watched.apply_processors(watched.read_source(index), (0, index, 0))
        except Exception as error:
            if samples.data.on_bad_sample == "raise":
                add_sample_note(error, samples.describe_sample(index))
                raise
            continue
        if (stage := random.first_stage_using_rng()) is not None:
            return stage - 1
        if sample is not None:
            return len(samples.processors)
    return 0
