"""Stream cache: the results of deterministic StreamProcessors, stored as a random-access source."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.dropped_samples import DroppedSample, all_dropped_error
from tfaip_like.data._loader.groups import GroupBuilder, GroupResult, SampleGroup
from tfaip_like.data._loader.randomness import RngUsageDetector
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sampler import INDEX, Sampler
from tfaip_like.data._loader.streams import Bookmark, Stream
from tfaip_like.data._processors import StreamProcessor
from tfaip_like.data._resampling import FloatArray
from tfaip_like.data._settings import LoaderSettings
from tfaip_like.data._sources.cached import CachedStreamSource
from tfaip_like.data._sources.indexed import Indices
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.parallel_map import map_tasks
from tfaip_like.data._workers.shared_memory import SharedFile

logger = logging.getLogger(__name__)

MAX_PROBED_GROUPS = 10


@dataclass(frozen=True)
class CachedStream:
    """Cached results of the deterministic processors."""

    samples: SampleReader
    """Reader of the cached samples, with the remaining processors."""
    bad: Sequence[BadSample]
    dropped: Sequence[DroppedSample]


class RngDetectingGroupBuilder(GroupBuilder):
    """Group builder that detects which processors use their random generator.

    Args:
        samples: reader of the samples.

    Attributes:
        first_random_stage: first stage that used its generator in the last group; None if none did.
    """

    def __init__(self, samples: SampleReader):
        watched = copy.copy(samples)
        watched.dropped = []
        watched.random = self._rng_detector = RngUsageDetector()
        super().__init__(watched)
        self.first_random_stage: int | None = None

    def __call__(self, group: SampleGroup) -> GroupResult:
        self._rng_detector.reset()
        self._generators: list[tuple[int, np.random.Generator, Any]] = []
        made = super().__call__(group)
        used = [stage for stage, generator, before in self._generators if generator.bit_generator.state != before]
        if (sample_stage := self._rng_detector.first_stage_using_rng()) is not None:
            used.append(sample_stage)
        self.first_random_stage = min(used, default=None)
        return made

    def make_rng(self, group: SampleGroup, stage: int) -> np.random.Generator:
        generator = super().make_rng(group, stage)
        self._generators.append((stage, generator, generator.bit_generator.state))
        return generator


class PicklingGroupBuilder(RngDetectingGroupBuilder):
    """Group builder that returns pickled samples; raises `UsageError` for a random processor."""

    def __call__(self, group: SampleGroup) -> GroupResult:
        made = super().__call__(group)
        if self.first_random_stage is not None:
            raise UsageError(
                f"cache: {self.samples.stages[self.first_random_stage]} is not deterministic: it used its random "
                f"generator on the group that begins with {self.samples.describe_sample(group.rows[0][INDEX])}, but "
                "not on the first groups; disable the cache"
            )
        if made.level < len(self.levels) - 1:
            return made
        return replace(made, samples=(), pickled=[pickle.dumps(sample, protocol=5) for sample in made.samples])


def count_deterministic_stages(stream: Stream, check: Callable[[], None]) -> int:
    """Return the number of leading processors that do not use their random generator on the first groups."""
    work = RngDetectingGroupBuilder(stream.samples)

    def find() -> int:
        stages = len(stream.samples.processors)
        chain = stream.chain(Bookmark(), is_endless=False)
        for group in itertools.islice(chain.tasks(), MAX_PROBED_GROUPS * len(stream.sizes)):
            assert group is not None
            made = work(group)
            if work.first_random_stage is not None:
                stages = min(stages, work.first_random_stage - 1)
            if (last := chain.add_result(made)) is not None and last.rows:
                break
        return stages

    return call_in_thread(find, check)


def cache_stream(
    stream: Stream, weights: FloatArray | None, stages: int, settings: LoaderSettings, check: Callable[[], None]
) -> CachedStream:
    """Cache the results of the first processors, in the order of the source.

    Args:
        stream: stream of the selected samples with all processors.
        weights: sampling weight of each selected sample, divided among the samples made from it; None for uniform.
        stages: number of processors whose results are cached.
        settings: cache location and number of workers.
        check: called while waiting; raises to stop.

    Raises:
        UsageError: if the processors produce no samples.
    """
    samples, group = stream.samples, stream.group
    reader = SampleReader(samples.data, samples.source, samples.mode, samples.seed, samples.processors[:stages])
    reader.indices = samples.indices
    in_order = replace(settings, shuffle=False, buckets=0, bucket_boundaries=[], max_batch_length=None)
    ordered_stream = Stream(reader, in_order, Sampler(samples.indices, samples.seed, shuffle=False), group)
    file = SharedFile.in_memory() if settings.cache == "memory" else SharedFile.on_disk()
    sizes, origins = [], []
    bad: list[BadSample] = []
    dropped: list[DroppedSample] = []
    for result in _iter_results(ordered_stream, PicklingGroupBuilder(reader), check):
        bad += result.bad
        dropped += result.dropped
        for row, data in zip(result.rows, result.pickled, strict=True):
            file.write(data)
            sizes.append(len(data))
            origins.append(row[INDEX])
    if not sizes:
        raise all_dropped_error(group, samples.data, dropped)
    logger.info(
        "--%s.cache %s: cached %s from %d source samples (%.3g MB) after the first %d of %d processors",
        group,
        settings.cache,
        pluralize(len(sizes), "sample"),
        len(samples.indices),
        sum(sizes) / 1e6,
        stages,
        len(samples.processors),
    )
    origin_indices = np.array(origins, np.int64)
    source = CachedStreamSource(
        samples.source,
        file,
        np.array(sizes, np.int64),
        origin_indices,
        _share_weights(weights, samples.indices, origin_indices),
    )
    cached = SampleReader(samples.data, source, samples.mode, samples.seed, samples.processors[stages:])
    return CachedStream(cached, bad, dropped)


def has_stream_processor(samples: SampleReader, stages: int) -> bool:
    """Return whether one of the first `stages` processors is a StreamProcessor."""
    return any(isinstance(processor, StreamProcessor) for processor in samples.processors[:stages])


def _iter_results(stream: Stream, work: GroupBuilder, check: Callable[[], None]) -> Iterator[GroupResult]:
    assert stream.order is not None
    chain = stream.chain(Bookmark(), is_endless=False)
    num_groups = -(-len(stream.order) // stream.sizes[0])
    with sample_progress_bar(len(stream.order), f"caching --{stream.group} samples", delay_s=1) as bar:
        for result in map_tasks(work, chain.tasks(), num_groups, stream.settings, check):
            if result.level == 0:
                bar.update(stream.sizes[0])
            if (finished := chain.add_result(result)) is not None:
                yield finished


def _share_weights(weights: FloatArray | None, indices: Indices, origins: npt.NDArray[np.int64]) -> FloatArray | None:
    """Divide the weight of each source sample among the samples that were made from it."""
    if weights is None:
        return None
    positions = indices.searchsorted(origins)
    counts = np.bincount(positions, minlength=len(indices))
    shares: FloatArray = weights[positions] / counts[positions]
    return shares
