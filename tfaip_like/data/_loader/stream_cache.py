"""The cache of streams: what StreamProcessors make without randomness is made once, and has an index from then on."""

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
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.parallel_map import map_tasks, progress_bar
from tfaip_like.data._workers.shared_memory import SharedFile

logger = logging.getLogger(__name__)

MAX_PROBED_GROUPS = 10


@dataclass(frozen=True)
class CachedStream:
    """Samples as they come out of the processors that are not random."""

    samples: SampleReader
    """Of a source with an index, and the processors that are left."""
    bad: Sequence[BadSample]
    dropped: Sequence[DroppedSample]


class RngDetectingGroupBuilder(GroupBuilder):
    """The work of making groups that notes which processors use their generator.

    Attributes:
        first_random_stage: number of the first stage that did in the last group; None if none did.
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
        if (of_samples := self._rng_detector.first_stage_using_rng()) is not None:
            used.append(of_samples)
        self.first_random_stage = min(used, default=None)
        return made

    def make_rng(self, group: SampleGroup, stage: int) -> np.random.Generator:
        generator = super().make_rng(group, stage)
        self._generators.append((stage, generator, generator.bit_generator.state))
        return generator


class PicklingGroupBuilder(RngDetectingGroupBuilder):
    """The work of filling the cache: pickled samples of groups."""

    def __call__(self, group: SampleGroup) -> GroupResult:
        made = super().__call__(group)
        if self.first_random_stage is not None:
            raise UsageError(
                f"cache: {self.samples.stages[self.first_random_stage]} used its random generator for the "
                "group of samples "
                f"that begins with {self.samples.describe_sample(group.rows[0][INDEX])}, though not for the "
                "first groups; what "
                "it makes cannot be kept, so turn the cache off"
            )
        if made.level < len(self.levels) - 1:
            return made
        return replace(made, samples=(), pickled=[pickle.dumps(sample, protocol=5) for sample in made.samples])


def count_deterministic_stages(stream: Stream, check: Callable[[], None]) -> int:
    """Return how many of the first processors do not use their random generator, as seen on the first groups."""
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
    """Make all samples up to the first random processor, in the order of the source.

    Args:
        stream: of the samples that are used, with all processors.
        weights: how often each sample of the source is drawn; what is made of it shares its weight.
        stages: number of processors whose results are kept.

    Raises:
        UsageError: when nothing is made.
    """
    samples, group = stream.samples, stream.group
    kept = SampleReader(samples.data, samples.source, samples.mode, samples.seed, samples.processors[:stages])
    kept.indices = samples.indices
    in_order = replace(settings, shuffle=False, buckets=0, bucket_boundaries=[], max_batch_length=None)
    of_kept = Stream(kept, in_order, Sampler(samples.indices, samples.seed, shuffle=False), group)
    file = SharedFile.in_memory() if settings.cache == "memory" else SharedFile.on_disk()
    sizes, origins = [], []
    bad: list[BadSample] = []
    dropped: list[DroppedSample] = []
    for made in _iter_results(of_kept, PicklingGroupBuilder(kept), check):
        bad += made.bad
        dropped += made.dropped
        for row, data in zip(made.rows, made.pickled, strict=True):
            file.write(data)
            sizes.append(len(data))
            origins.append(row[INDEX])
    if not sizes:
        raise all_dropped_error(group, samples.data, dropped)
    logger.info(
        "--%s.cache %s: %s of %d, %.3g MB, after %d of %d processors",
        group,
        settings.cache,
        pluralize(len(sizes), "sample"),
        len(samples.indices),
        sum(sizes) / 1e6,
        stages,
        len(samples.processors),
    )
    found = np.array(origins, np.int64)
    source = CachedStreamSource(
        samples.source, file, np.array(sizes, np.int64), found, _share_weights(weights, samples.indices, found)
    )
    rest = SampleReader(samples.data, source, samples.mode, samples.seed, samples.processors[stages:])
    return CachedStream(rest, bad, dropped)


def has_stream_processor(samples: SampleReader, stages: int) -> bool:
    """Return whether there is a StreamProcessor among the first processors."""
    return any(isinstance(processor, StreamProcessor) for processor in samples.processors[:stages])


def _iter_results(stream: Stream, work: GroupBuilder, check: Callable[[], None]) -> Iterator[GroupResult]:
    assert stream.order is not None
    chain = stream.chain(Bookmark(), is_endless=False)
    parts = -(-len(stream.order) // stream.sizes[0])
    with progress_bar(len(stream.order), f"caching --{stream.group} samples") as bar:
        for made in map_tasks(work, chain.tasks(), parts, stream.settings, check):
            if made.level == 0:
                bar.update(stream.sizes[0])
            if (last := chain.add_result(made)) is not None:
                yield last


def _share_weights(
    weights: FloatArray | None, indices: npt.NDArray[np.int64], origins: npt.NDArray[np.int64]
) -> FloatArray | None:
    """Return the weights of what was made: that of a sample of the source, divided by how many were made of it."""
    if weights is None:
        return None
    places = np.searchsorted(indices, origins)
    counts = np.bincount(places, minlength=len(indices))
    shares: FloatArray = weights[places] / counts[places]
    return shares
