"""Streams: batches of samples that are processed in groups, shuffled in blocks or bucketed by length.

A *block* consists of whole groups with about `shuffle_buffer` samples. Its order depends only on the seed and its
position, so the order of a training depends only on the seed, and reading can start at any block. The position of a
batch is known only after the previous ones; a `Bookmark` stores it, so that a resumed training need not repeat them.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.typed_json import Count
from tfaip_like.data._loader.batched_source import BatchedSource, needs_no_work_per_sample
from tfaip_like.data._loader.batching import BadSample, Batch, concatenate
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
from tfaip_like.data._loader.source_passes import SourceMark, SourcePasses
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._settings import DEFAULT_NUM_BUCKETS, LoaderSettings

DEFAULT_BLOCK_SAMPLES, MAX_BLOCK_BYTES = 1000, 2**28
"""Limits of a block if `shuffle_buffer` is not set: number of samples, and their size in bytes."""
MAX_CONSECUTIVE_EMPTY_GROUPS = 1000
"""Maximum number of consecutive groups without samples before an error is raised."""
SHUFFLE_SAMPLES_KEY, SHUFFLE_BATCHES_KEY = 2**31, 2**31 + 1
"""Keys of the random generators for shuffling; small numbers are the keys of StreamProcessors."""
MAX_BOOKMARKS = 4096
"""Maximum number of bookmarks; far more than the batches that are prefetched."""


@dataclass(frozen=True)
class Bookmark:
    """Start of a batch in a stream."""

    data_pass: Count = 0
    position: GroupPosition = FIRST_POSITION
    """Position of the first group of the block."""
    taken: Count = 0
    """Number of samples of the block before the batch; with length buckets, number of batches."""


@dataclass(frozen=True)
class StreamState:
    """Position of a training in a stream; part of its checkpoints."""

    pass_counts: tuple[Count, Count, Count] | None
    """Numbers of source samples, processed samples and batches of a pass; None if they are not counted."""
    batch: Count
    """Number of the batch at the bookmark."""
    bookmark: Bookmark
    source: list[SourceMark] = field(default_factory=list)
    """Marks of an iterable-only source."""


@dataclass
class Block:
    """Block of samples that are shuffled together."""

    data_pass: int
    position: GroupPosition
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    bad: list[BadSample] = field(default_factory=list)
    dropped: list[DroppedSample] = field(default_factory=list)
    nbytes: int = 0

    def add(self, result: GroupResult) -> None:
        """Append the result of a group."""
        self.rows += result.rows
        self.samples += result.samples
        self.lengths += result.lengths
        self.bad += result.bad
        self.dropped += result.dropped
        self.nbytes += result.nbytes


class BlockCollector:
    """Iterator over blocks that collects the next block while the current one is used.

    Args:
        results: results of groups, in order.
        size: samples per block, rounded up to whole groups; a block ends with its pass. 0 makes each group a block.
        max_bytes: size of a block in bytes, rounded up to whole groups; None for no limit.
    """

    def __init__(self, results: Iterator[GroupResult], size: int, max_bytes: int | None):
        self._results = results
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
        """Collect groups until the next block has `count` samples or is complete."""
        while not self._finished and (self._block is None or len(self._block.rows) < count) and self._collect_group():
            pass

    def _collect_group(self) -> bool:
        """Add a group to the block; return False at the end."""
        result = next(self._results, None)
        if result is None:
            self._finish()
            return bool(self._finished)
        if self._block is not None and self._block.data_pass != result.data_pass:
            self._finish()
        self._block = self._block or Block(result.data_pass, result.position)
        self._block.add(result)
        self._num_empty = 0 if result.rows else self._num_empty + 1
        if self._num_empty == MAX_CONSECUTIVE_EMPTY_GROUPS:
            raise UsageError(
                f"the processors produced no sample from {MAX_CONSECUTIVE_EMPTY_GROUPS} consecutive groups"
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
"""Batch, and the bookmark of the next one."""


class Stream:
    """Stream of batches whose samples are processed in groups.

    Args:
        samples: reader of the samples.
        settings: batch size, order and length buckets.
        order: sampler of a random-access source; None for an iterable-only source.
        group: flag group such as `train`, for messages.
    """

    def __init__(self, samples: SampleReader, settings: LoaderSettings, order: Sampler | None, group: str):
        self.samples = samples
        self.settings = settings
        self.order = order
        self.group = group
        default_size = DEFAULT_GROUP_SIZE
        if samples.mode is Mode.PREDICT:  # a client that sends samples one by one waits for each answer
            default_size = min(default_size, settings.batch_size)
        self._passes = SourcePasses(samples, group) if order is None else None
        self.sizes = group_sizes(samples.processors, default_size)
        is_mixed = settings.shuffle or settings.has_buckets
        self.block_size = (settings.shuffle_buffer or DEFAULT_BLOCK_SAMPLES) if is_mixed else 0
        self._max_bytes = MAX_BLOCK_BYTES if is_mixed and settings.shuffle_buffer is None else None
        self._bookmarks = [(0, Bookmark())]
        """Batch numbers in the infinite stream, ascending, with the bookmarks."""
        self._lock = threading.Lock()
        """Guards the bookmarks: batches and checkpoints are created in different threads."""

    def work(self) -> GroupBuilder:
        """Return the worker function."""
        return GroupBuilder(self.samples, measure_lengths=self.settings.has_buckets)

    def chain(self, begin: Bookmark, is_endless: bool) -> GroupChain:
        """Return the groups from a bookmark on, up to the end of the pass or without end."""
        return GroupChain(self._iter_source_groups(begin, is_endless), self.sizes, begin.position)

    def batches(self, results: Iterator[GroupResult], begin: Bookmark) -> Iterator[BookmarkedBatch]:
        """Return the batches of groups; the last one may be smaller.

        Args:
            results: results of the groups from the bookmark on.
            begin: bookmark of the first batch.
        """
        blocks = self.blocks(results)
        return (
            self._iter_bucketed(blocks, begin.taken)
            if self.settings.has_buckets
            else self._iter_fixed_size(blocks, begin.taken)
        )

    def blocks(self, results: Iterator[GroupResult]) -> BlockCollector:
        """Return the blocks of groups."""
        return BlockCollector(results, self.block_size, self._max_bytes)

    def bookmark(self, number: int) -> tuple[int, Bookmark]:
        """Return the number and the bookmark of the last bookmarked batch up to `number`."""
        with self._lock:
            return self._bookmarks[bisect.bisect_right(self._bookmarks, number, key=itemgetter(0)) - 1]

    def keep(self, number: int, bookmark: Bookmark) -> None:
        """Store the bookmark of a batch; discard old ones except the first when there are too many."""
        with self._lock:
            begin = bisect.bisect_left(self._bookmarks, number, key=itemgetter(0))
            end = bisect.bisect_right(self._bookmarks, number, key=itemgetter(0))
            self._bookmarks[begin:end] = [(number, bookmark)]
            if len(self._bookmarks) > MAX_BOOKMARKS:
                del self._bookmarks[1]

    def state(self, number: int, pass_counts: tuple[Count, Count, Count] | None) -> StreamState:
        """Return what a checkpoint stores to continue at a batch."""
        number, bookmark = self.bookmark(number)
        first = bookmark.position[-1] * self.sizes[0]
        marks = self._passes.marks(bookmark.data_pass, first) if self._passes is not None else []
        return StreamState(pass_counts, number, bookmark, marks)

    def resume(self, number: int, bookmark: Bookmark, source: Iterable[SourceMark]) -> None:
        """Continue at the bookmark of a batch, with the marks of its checkpoint."""
        self.keep(number, bookmark)
        if self._passes is not None:
            self._passes.restore(source)

    def has_only_batches(self) -> bool:
        """Return whether `regrouped_batches` yields the batches; reads the first item of a source."""
        if self._passes is None or not needs_no_work_per_sample(self.samples, self.settings):
            return False
        return self._passes.has_batches()

    def regrouped_batches(self, begin: Bookmark) -> Iterator[BookmarkedBatch]:
        """Yield the batches of a source of batches from a bookmark on, without end: those of `batches`, faster."""
        assert self._passes is not None
        size = self.sizes[0]
        source = BatchedSource(self.samples, self._passes, size, self.block_size, self._max_bytes)
        first, taken = begin.position[-1] * size, begin.taken
        if not self.block_size:  # blocks may begin at any sample
            first, taken = first + taken, 0
        parts: list[Batch] = []
        missing = self.settings.batch_size
        for data_pass in itertools.count(begin.data_pass):
            is_empty = first == 0
            for block in source.blocks(data_pass, first):
                is_empty = False
                at = block.indices[0]
                position = (at // size,)
                order = self._shuffled(data_pass, position, len(block)) if self.settings.shuffle else None
                while taken < len(block):
                    end = min(taken + missing, len(block))
                    parts.append(block.rows(taken, end) if order is None else block.take(order[taken:end]))
                    missing, taken = missing - (end - taken), end
                    if missing == 0:
                        if not self.block_size:
                            position, offset = ((at + taken) // size,), (at + taken) % size
                        yield concatenate(parts), Bookmark(data_pass, position, taken if self.block_size else offset)
                        parts, missing = [], self.settings.batch_size
                taken = 0
            if is_empty:
                raise self._empty_pass_error(data_pass)
            first = 0

    def split_block_by_length(self, block: Block) -> list[npt.NDArray[np.int64]]:
        """Return the positions in a block of the samples of each length-bucketed batch."""
        settings = self.settings
        lengths = np.array(block.lengths, np.int64)
        if not len(lengths):
            return []
        shuffled = self._shuffled_indices(block)
        boundaries = settings.bucket_boundaries or quantile_boundaries(lengths, settings.buckets or DEFAULT_NUM_BUCKETS)
        members = bucket_by_length(lengths[shuffled], boundaries, settings.batch_size, settings.max_batch_length)
        count = len(members)
        order = (
            self._random(block.data_pass, block.position, SHUFFLE_BATCHES_KEY).permutation(count)
            if settings.shuffle
            else range(count)
        )
        return [shuffled[members[number]] for number in order]

    def _iter_fixed_size(self, blocks: BlockCollector, skip: int) -> Iterator[BookmarkedBatch]:
        rows: list[Row] = []
        samples: list[Sample] = []
        bad: list[BadSample] = []
        dropped: list[DroppedSample] = []
        end = Bookmark()
        for block in blocks:
            bad, dropped = bad + block.bad, dropped + block.dropped
            positions, taken = self._shuffled_indices(block).tolist(), skip
            while taken < len(positions):
                selected = positions[taken : taken + self.settings.batch_size - len(rows)]
                rows += [block.rows[position] for position in selected]
                samples += [block.samples[position] for position in selected]
                taken += len(selected)
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
            members = self.split_block_by_length(block)
            for taken, positions in enumerate(members[skip:], skip + 1):
                rows = [block.rows[position] for position in positions.tolist()]
                samples = [block.samples[position] for position in positions.tolist()]
                end = Bookmark(block.data_pass, block.position, taken)
                yield self.samples.collate_batch(samples, rows, bad, dropped), end
                bad, dropped = [], []
                blocks.collect(taken * len(block.rows) // len(members))
            skip = 0
        if bad or dropped:
            yield self.samples.collate_batch([], [], bad, dropped), end

    def _shuffled_indices(self, block: Block) -> npt.NDArray[np.int64]:
        count = len(block.rows)
        return self._shuffled(block.data_pass, block.position, count) if self.settings.shuffle else np.arange(count)

    def _shuffled(self, data_pass: int, position: GroupPosition, count: int) -> npt.NDArray[np.int64]:
        return self._random(data_pass, position, SHUFFLE_SAMPLES_KEY).permutation(count)

    def _random(self, data_pass: int, position: GroupPosition, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.samples.seed, data_pass, purpose, *position))

    def _empty_pass_error(self, data_pass: int) -> CodeError:
        name = type(self.samples.data).__name__
        message = f"the source of {name} yielded no samples in pass {data_pass + 1}"
        return CodeError(message, *self.samples.get_reader_code())

    def _iter_source_groups(self, begin: Bookmark, is_endless: bool) -> Iterator[SampleGroup]:
        """Yield the groups of the first level.

        Raises:
            UsageError: if a pass has no samples.
        """
        first = begin.position[-1]
        for data_pass in itertools.count(begin.data_pass):
            groups = iter_groups(
                self.samples, self.order, data_pass, self.settings.limit, self.sizes[0], first, self._passes
            )
            is_empty = first == 0
            for group in groups:
                is_empty = False
                yield group
            if not is_endless:
                return
            if is_empty:
                raise self._empty_pass_error(data_pass)
            first = 0
