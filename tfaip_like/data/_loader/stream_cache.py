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

from tfaip_like._utils.errors import UsageError, counted
from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.dropped import Dropped, no_sample_left
from tfaip_like.data._loader.groups import Group, Made, MakeGroups
from tfaip_like.data._loader.randomness import WatchedRandomness
from tfaip_like.data._loader.sample_reader import Samples
from tfaip_like.data._loader.sampler import INDEX, Order
from tfaip_like.data._loader.streams import Bookmark, Stream
from tfaip_like.data._processors import StreamProcessor
from tfaip_like.data._resampling import Floats
from tfaip_like.data._settings import DataSettings
from tfaip_like.data._sources.cached import MadeSource
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.parallel_map import progress_bar, results_of
from tfaip_like.data._workers.shared_memory import SharedFile

logger = logging.getLogger(__name__)

GROUPS_TRIED = 10


@dataclass(frozen=True)
class MadeOnce:
    """Samples as they come out of the processors that are not random."""

    samples: Samples
    """Of a source with an index, and the processors that are left."""
    bad: Sequence[BadSample]
    dropped: Sequence[Dropped]


class WatchedGroups(MakeGroups):
    """The work of making groups that notes which processors use their generator.

    Attributes:
        first_random: number of the first stage that did in the last group; None if none did.
    """

    def __init__(self, samples: Samples):
        watched = copy.copy(samples)
        watched.dropped = []
        watched.random = self._watch = WatchedRandomness()
        super().__init__(watched)
        self.first_random: int | None = None

    def __call__(self, group: Group) -> Made:
        self._watch.forget()
        self._generators: list[tuple[int, np.random.Generator, Any]] = []
        made = super().__call__(group)
        used = [stage for stage, generator, before in self._generators if generator.bit_generator.state != before]
        if (of_samples := self._watch.first_user()) is not None:
            used.append(of_samples)
        self.first_random = min(used, default=None)
        return made

    def random_of(self, group: Group, stage: int) -> np.random.Generator:
        generator = super().random_of(group, stage)
        self._generators.append((stage, generator, generator.bit_generator.state))
        return generator


class PickleGroups(WatchedGroups):
    """The work of filling the cache: pickled samples of groups."""

    def __call__(self, group: Group) -> Made:
        made = super().__call__(group)
        if self.first_random is not None:
            raise UsageError(
                f"cache: {self.samples.stages[self.first_random]} used its random generator for the group of samples "
                f"that begins with {self.samples.place(group.rows[0][INDEX])}, though not for the first groups; what "
                "it makes cannot be kept, so turn the cache off"
            )
        if made.level < len(self.levels) - 1:
            return made
        return replace(made, samples=(), pickled=[pickle.dumps(sample, protocol=5) for sample in made.samples])


def stages_without_randomness(stream: Stream, check: Callable[[], None]) -> int:
    """Return how many of the first processors do not use their random generator, as seen on the first groups."""
    work = WatchedGroups(stream.samples)

    def find() -> int:
        stages = len(stream.samples.processors)
        chain = stream.chain(Bookmark(), is_endless=False)
        for group in itertools.islice(chain.tasks(), GROUPS_TRIED * len(stream.sizes)):
            assert group is not None
            made = work(group)
            if work.first_random is not None:
                stages = min(stages, work.first_random - 1)
            if (last := chain.take(made)) is not None and last.rows:
                break
        return stages

    return call_in_thread(find, check)


def make_once(
    stream: Stream, weights: Floats | None, stages: int, settings: DataSettings, check: Callable[[], None]
) -> MadeOnce:
    """Make all samples up to the first random processor, in the order of the source.

    Args:
        stream: of the samples that are used, with all processors.
        weights: how often each sample of the source is drawn; what is made of it shares its weight.
        stages: number of processors whose results are kept.

    Raises:
        UsageError: when nothing is made.
    """
    samples, group = stream.samples, stream.group
    kept = Samples(samples.data, samples.source, samples.mode, samples.seed, samples.processors[:stages])
    kept.indices = samples.indices
    in_order = replace(settings, shuffle=False, buckets=0, bucket_boundaries=[], max_batch_length=None)
    of_kept = Stream(kept, in_order, Order(samples.indices, samples.seed, shuffle=False), group)
    file = SharedFile.in_memory() if settings.cache == "memory" else SharedFile.on_disk()
    sizes, origins = [], []
    bad: list[BadSample] = []
    dropped: list[Dropped] = []
    for made in _results(of_kept, PickleGroups(kept), check):
        bad += made.bad
        dropped += made.dropped
        for row, data in zip(made.rows, made.pickled, strict=True):
            file.write(data)
            sizes.append(len(data))
            origins.append(row[INDEX])
    if not sizes:
        raise no_sample_left(group, samples.data, dropped)
    logger.info(
        "--%s.cache %s: %s of %d, %.3g MB, after %d of %d processors",
        group,
        settings.cache,
        counted(len(sizes), "sample"),
        len(samples.indices),
        sum(sizes) / 1e6,
        stages,
        len(samples.processors),
    )
    found = np.array(origins, np.int64)
    source = MadeSource(
        samples.source, file, np.array(sizes, np.int64), found, _shared(weights, samples.indices, found)
    )
    rest = Samples(samples.data, source, samples.mode, samples.seed, samples.processors[stages:])
    return MadeOnce(rest, bad, dropped)


def can_be_made_once(samples: Samples, stages: int) -> bool:
    """Return whether there is a StreamProcessor among the first processors."""
    return any(isinstance(processor, StreamProcessor) for processor in samples.processors[:stages])


def _results(stream: Stream, work: MakeGroups, check: Callable[[], None]) -> Iterator[Made]:
    assert stream.order is not None
    chain = stream.chain(Bookmark(), is_endless=False)
    parts = -(-len(stream.order) // stream.sizes[0])
    with progress_bar(len(stream.order), f"caching --{stream.group} samples") as bar:
        for made in results_of(work, chain.tasks(), parts, stream.settings, check):
            if made.level == 0:
                bar.update(stream.sizes[0])
            if (last := chain.take(made)) is not None:
                yield last


def _shared(weights: Floats | None, indices: npt.NDArray[np.int64], origins: npt.NDArray[np.int64]) -> Floats | None:
    """Return the weights of what was made: that of a sample of the source, divided by how many were made of it."""
    if weights is None:
        return None
    places = np.searchsorted(indices, origins)
    counts = np.bincount(places, minlength=len(indices))
    shares: Floats = weights[places] / counts[places]
    return shares
