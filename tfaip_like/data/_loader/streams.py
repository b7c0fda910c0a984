"""Batches of samples that are made in groups: shuffled in blocks, mixed or sorted by length, from any place on.

Whole groups make a *block*, as many as hold `shuffle_buffer` samples. A block is shuffled as a function of the seed and
its place, so the order of a training is a function of the seed alone, and reading can begin at any block. Where a batch
begins is known once those before it were made; a `Bookmark` keeps it, so that a resumed training need not make them.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import BadSample, Batch
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.group_chain import GroupChain
from tfaip_like.data._loader.groups import (
    DEFAULT_GROUP_SIZE,
    FIRST_POSITION,
    GroupBuilder,
    GroupPosition,
    GroupResult,
    SampleGroup,
    group_sizes,
    iter_groups,
)
from tfaip_like.data._loader.sample_reader import Row, SampleReader
from tfaip_like.data._loader.sampler import Sampler, bucket_by_length, quantile_boundaries
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._settings import DEFAULT_NUM_BUCKETS, LoaderSettings

DEFAULT_BLOCK_SAMPLES, MAX_BLOCK_BYTES = 1000, 2**28
"""A block ends at the first of these limits, unless `shuffle_buffer` is given."""
MAX_CONSECUTIVE_EMPTY_GROUPS = 1000
"""So many groups without a sample in a row are taken for a mistake."""
SHUFFLE_SAMPLES_KEY, SHUFFLE_BATCHES_KEY = 2**31, 2**31 + 1
"""What is drawn, for generators of their own; StreamProcessors have those of small numbers."""
MAX_BOOKMARKS = 4096
"""More batches are never ahead of the training."""


@dataclass(frozen=True)
class Bookmark:
    """Where a batch begins."""

    data_pass: int = 0
    position: GroupPosition = FIRST_POSITION
    """Of the first group of a block."""
    taken: int = 0
    """Samples of the block that come before; batches, where they are made by length."""

    def to_json(self) -> list[Any]:
        """Return it as JSON values."""
        return [self.data_pass, list(self.position), self.taken]

    @classmethod
    def from_json(cls, values: list[Any]) -> Self:
        """Return the bookmark that `to_json` wrote."""
        data_pass, position, taken = values
        return cls(data_pass, tuple(position), taken)


@dataclass
class Block:
    """Samples that are shuffled together."""

    data_pass: int
    position: GroupPosition
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    bad: list[BadSample] = field(default_factory=list)
    dropped: list[DroppedSample] = field(default_factory=list)
    nbytes: int = 0

    def add(self, made: GroupResult) -> None:
        """Take what became of a group."""
        self.rows += made.rows
        self.samples += made.samples
        self.lengths += made.lengths
        self.bad += made.bad
        self.dropped += made.dropped
        self.nbytes += made.nbytes


class BlockCollector:
    """Collects blocks; the next one while one is used, so that the network need not wait for a whole one.

    Args:
        made: what became of groups, in their order.
        size: samples in a block, or a few more; a block ends with its pass. 0: each group is one.
        max_bytes: of a block, or a few more; None for no limit.
    """

    def __init__(self, made: Iterator[GroupResult], size: int, max_bytes: int | None):
        self._made = made
        self._size = size
        self._max_bytes = max_bytes
        self._finished: deque[Block] = deque()
        self._block: Block | None = None
        self._num_empty = 0

    def __iter__(self) -> Iterator[Block]:
        while self._finished or self._collect_group():
            if self._finished:
                yield self._finished.popleft()

    def collect(self, count: int) -> None:
        """Collect until the next block has so many samples or is finished."""
        while not self._finished and (self._block is None or len(self._block.rows) < count) and self._collect_group():
            pass

    def _collect_group(self) -> bool:
        """Add a group to the block; return False when there is no more."""
        made = next(self._made, None)
        if made is None:
            self._finish()
            return bool(self._finished)
        if self._block is not None and self._block.data_pass != made.data_pass:
            self._finish()
        self._block = self._block or Block(made.data_pass, made.position)
        self._block.add(made)
        self._num_empty = 0 if made.rows else self._num_empty + 1
        if self._num_empty == MAX_CONSECUTIVE_EMPTY_GROUPS:
            raise UsageError(
                f"{MAX_CONSECUTIVE_EMPTY_GROUPS} groups of samples in a row became nothing: no batch can be made"
            )
        is_large = self._max_bytes is not None and self._block.nbytes >= self._max_bytes
        if is_large or len(self._block.rows) >= self._size:
            self._finish()
        return True

    def _finish(self) -> None:
        if self._block is not None:
            self._finished.append(self._block)
            self._block = None


BookmarkedBatch: TypeAlias = tuple[Batch, Bookmark]
"""A batch, and where the next one begins."""


class Stream:
    """The batches of samples that are made in groups.

    Args:
        order: of the samples of a source with an index; None for one that can only be read from its beginning.
        group: of the flags: `train`, for messages.
    """

    def __init__(self, samples: SampleReader, settings: LoaderSettings, order: Sampler | None, group: str):
        self.samples = samples
        self.settings = settings
        self.order = order
        self.group = group
        is_answered_at_once = (
            samples.mode is Mode.PREDICT
        )  # a client that sends samples one by one waits for each answer
        self.sizes = group_sizes(
            samples.processors,
            min(DEFAULT_GROUP_SIZE, settings.batch_size) if is_answered_at_once else DEFAULT_GROUP_SIZE,
        )
        is_mixed = settings.shuffle or settings.has_buckets
        self.block_size = (settings.shuffle_buffer or DEFAULT_BLOCK_SAMPLES) if is_mixed else 0
        self._max_bytes = MAX_BLOCK_BYTES if is_mixed and settings.shuffle_buffer is None else None
        self._bookmarks = [(0, Bookmark())]
        """With the number of the batch of the endless stream, rising."""
        self._lock = threading.Lock()
        """Guards the bookmarks: batches are made in another thread than checkpoints."""

    def work(self) -> GroupBuilder:
        """Return what data processes do."""
        return GroupBuilder(self.samples, measure_lengths=self.settings.has_buckets)

    def chain(self, begin: Bookmark, is_endless: bool) -> GroupChain:
        """Return the groups from a bookmark on, of one pass or of all that follow."""
        return GroupChain(self._iter_source_groups(begin, is_endless), self.sizes, begin.position)

    def batches(self, made: Iterator[GroupResult], begin: Bookmark) -> Iterator[BookmarkedBatch]:
        """Yield the batches of groups; the last one may be smaller.

        Args:
            made: what became of the groups from the bookmark on.
        """
        blocks = self.blocks(made)
        return (
            self._iter_bucketed(blocks, begin.taken)
            if self.settings.has_buckets
            else self._iter_fixed_size(blocks, begin.taken)
        )

    def blocks(self, made: Iterator[GroupResult]) -> BlockCollector:
        """Return the blocks that groups make."""
        return BlockCollector(made, self.block_size, self._max_bytes)

    def bookmark(self, number: int) -> tuple[int, Bookmark]:
        """Return the last batch up to `number` of the endless stream of which is known where it begins, and where."""
        with self._lock:
            return self._bookmarks[bisect.bisect_right(self._bookmarks, number, key=itemgetter(0)) - 1]

    def keep(self, number: int, bookmark: Bookmark) -> None:
        """Remember where a batch begins; of the earlier ones only the latest, and the very first."""
        with self._lock:
            place = bisect.bisect_left(self._bookmarks, number, key=itemgetter(0))
            self._bookmarks[place : bisect.bisect_right(self._bookmarks, number, key=itemgetter(0))] = [
                (number, bookmark)
            ]
            if len(self._bookmarks) > MAX_BOOKMARKS:
                del self._bookmarks[1]

    def split_block_by_length(self, block: Block) -> list[npt.NDArray[np.int64]]:
        """Return the places of the samples of each batch of a block, where batches are made by length."""
        settings = self.settings
        lengths = np.array(block.lengths, np.int64)
        if not len(lengths):
            return []
        shuffled = self._shuffled_indices(block)
        boundaries = settings.bucket_boundaries or quantile_boundaries(lengths, settings.buckets or DEFAULT_NUM_BUCKETS)
        cut = bucket_by_length(lengths[shuffled], boundaries, settings.batch_size, settings.max_batch_length)
        order = self._random(block, SHUFFLE_BATCHES_KEY).permutation(len(cut)) if settings.shuffle else range(len(cut))
        return [shuffled[cut[number]] for number in order]

    def _iter_fixed_size(self, blocks: BlockCollector, skip: int) -> Iterator[BookmarkedBatch]:
        rows: list[Row] = []
        samples: list[Sample] = []
        bad: list[BadSample] = []
        dropped: list[DroppedSample] = []
        end = Bookmark()
        for block in blocks:
            bad, dropped = bad + block.bad, dropped + block.dropped
            places, taken = self._shuffled_indices(block).tolist(), skip
            while taken < len(places):
                part = places[taken : taken + self.settings.batch_size - len(rows)]
                rows += [block.rows[place] for place in part]
                samples += [block.samples[place] for place in part]
                taken += len(part)
                end = Bookmark(block.data_pass, block.position, taken)
                if len(rows) == self.settings.batch_size:
                    yield self.samples.collate_batch(samples, rows, bad, dropped), end
                    rows, samples, bad, dropped = [], [], [], []
                    if self.block_size:
                        blocks.collect(taken)
            skip = 0
        if rows or bad or dropped:
            yield self.samples.collate_batch(samples, rows, bad, dropped), end

    def _iter_bucketed(self, blocks: BlockCollector, skip: int) -> Iterator[BookmarkedBatch]:
        bad: list[BadSample] = []
        dropped: list[DroppedSample] = []
        end = Bookmark()
        for block in blocks:
            bad, dropped = bad + block.bad, dropped + block.dropped
            cut = self.split_block_by_length(block)
            for taken, places in enumerate(cut[skip:], skip + 1):
                rows = [block.rows[place] for place in places.tolist()]
                samples = [block.samples[place] for place in places.tolist()]
                end = Bookmark(block.data_pass, block.position, taken)
                yield self.samples.collate_batch(samples, rows, bad, dropped), end
                bad, dropped = [], []
                blocks.collect(taken * len(block.rows) // len(cut))
            skip = 0
        if bad or dropped:
            yield self.samples.collate_batch([], [], bad, dropped), end

    def _shuffled_indices(self, block: Block) -> npt.NDArray[np.int64]:
        count = len(block.rows)
        return (
            self._random(block, SHUFFLE_SAMPLES_KEY).permutation(count) if self.settings.shuffle else np.arange(count)
        )

    def _random(self, block: Block, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.samples.seed, block.data_pass, purpose, *block.position))

    def _iter_source_groups(self, begin: Bookmark, is_endless: bool) -> Iterator[SampleGroup]:
        """Yield the groups of the first level.

        Raises:
            UsageError: when a pass has none.
        """
        first = begin.position[-1]
        for data_pass in itertools.count(begin.data_pass):
            groups = iter_groups(self.samples, self.order, data_pass, self.settings.limit, self.sizes[0], first)
            is_empty = first == 0
            for group in groups:
                is_empty = False
                yield group
            if not is_endless:
                return
            if is_empty:
                name = type(self.samples.data).__name__
                message = f"the source of {name} has no samples in pass {data_pass + 1} over it"
                raise CodeError(message, *self.samples.get_reader_code())
            first = 0
