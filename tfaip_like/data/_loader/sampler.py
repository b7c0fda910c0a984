"""Samplers and batch samplers: pure functions of the seed and the number of the batch.

A *draw* is an array of shape (N, 3) with a row (pass, index, repeat) per sample: the pass over the data, the index in
the source, and the number of previous occurrences of the sample in this pass (above 0 only with sampling weights). The
randomness of a sample depends only on its row and the seed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like.data._sources.indexed import Indices

SampleRows: TypeAlias = npt.NDArray[np.int64]

PASS, INDEX, REPEAT = range(3)
MIN_SAMPLES_AHEAD = 100_000
"""Number of samples from which the order of the next pass is drawn in the background; fewer take milliseconds."""


class BatchSampler(Protocol):
    """Interface of batch samplers."""

    batches_per_pass: int
    """Number of batches of one pass."""

    def draw(self, number: int) -> SampleRows:
        """Return the rows of a batch of the infinite training stream, shape (batch, 3)."""

    def draw_batches(self, first: int, count: int) -> Sequence[SampleRows]:
        """Return the rows of `count` batches of the infinite training stream."""

    def iter_pass(self) -> Iterator[SampleRows]:
        """Yield the rows of all batches of one pass."""

    def num_batches(self, samples: int) -> int:
        """Return the number of batches that hold about `samples` samples."""


class PassOrder(NamedTuple):
    """Order of the samples in one pass; arrays of shape (N,), None where they would be trivial."""

    positions: npt.NDArray[np.signedinteger] | None
    """Positions of the samples among the selected ones; None for ascending ones."""
    repeats: npt.NDArray[np.signedinteger] | None
    """Number of previous occurrences of each sample; None if each occurs once."""


class Sampler:
    """Sampler that determines the order of the samples in each pass.

    A pass of shuffled samples takes 4 bytes per sample. The order of the next pass is drawn in
    the background while one is in use: for 10 million samples it takes half a second.

    Args:
        indices: indices of the selected samples in the source, ascending; shape (N,).
        seed: random seed of the run.
        shuffle: shuffle the samples in each pass.
        weights: sampling probability of each sample, shape (N,); None to use each sample once per pass.
    """

    def __init__(self, indices: Indices, seed: int, shuffle: bool, weights: npt.ArrayLike | None = None):
        self.indices = indices
        self.seed = seed
        self.shuffle = shuffle
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self._dtype = np.int32 if len(indices) <= np.iinfo(np.int32).max else np.int64
        self._orders: dict[int, PassOrder] = {}
        self._next_pass = -1
        """Pass whose order is being drawn in the background."""
        self._drawing = threading.Thread()

    def __len__(self) -> int:
        return len(self.indices)

    def rows_of_pass(self, data_pass: int) -> SampleRows:
        """Return the draw of one pass."""
        return self._rows(data_pass, 0, len(self))

    def iter_pass(self, data_pass: int, size: int, first: int = 0) -> Iterator[SampleRows]:
        """Yield the draw of one pass in parts of `size` rows, from part number `first` on; the last may be smaller."""
        for begin in range(first * size, len(self), size):
            yield self._rows(data_pass, begin, min(begin + size, len(self)))

    def rows_at(self, position: int, count: int) -> SampleRows:
        """Return `count` rows, starting at a position of the infinite sequence of passes."""
        rows = []
        while count > 0:
            data_pass, offset = divmod(position, len(self))
            rows.append(self._rows(data_pass, offset, min(offset + count, len(self))))
            self._draw_ahead(data_pass + 1)
            position, count = position + len(rows[-1]), count - len(rows[-1])
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _rows(self, data_pass: int, begin: int, end: int) -> SampleRows:
        positions, repeats = self._order_of_pass(data_pass)
        rows = np.zeros((end - begin, 3), np.int64)
        rows[:, PASS] = data_pass
        rows[:, INDEX] = self.indices[begin:end] if positions is None else self.indices[positions[begin:end]]
        if repeats is not None:
            rows[:, REPEAT] = repeats[begin:end]
        return rows

    def _order_of_pass(self, data_pass: int) -> PassOrder:
        """Return the order of one pass; the last two are cached, because a batch may span both."""
        if self.weights is None and not self.shuffle:
            return PassOrder(None, None)
        if self._next_pass == data_pass and self._drawing.is_alive():
            self._drawing.join()
        return self._orders.get(data_pass) or self._draw_and_cache(data_pass)

    def _draw_ahead(self, data_pass: int) -> None:
        """Begin to draw the order of a pass in the background, unless that takes no time."""
        is_drawn = data_pass in self._orders or self._next_pass == data_pass
        if is_drawn or len(self) < MIN_SAMPLES_AHEAD or (self.weights is None and not self.shuffle):
            return
        self._next_pass = data_pass
        self._drawing = threading.Thread(target=self._draw_and_cache, args=(data_pass,), daemon=True)
        self._drawing.start()

    def _draw_and_cache(self, data_pass: int) -> PassOrder:
        order = self._draw_pass(data_pass)
        # Replaced, not modified: several threads may read it.
        self._orders = {**dict(list(self._orders.items())[-1:]), data_pass: order}
        return order

    def _draw_pass(self, data_pass: int) -> PassOrder:
        random = np.random.default_rng((self.seed, data_pass))
        if self.weights is None:
            return PassOrder(random.permutation(np.arange(len(self), dtype=self._dtype)), None)
        positions = self._sample_by_weight(random)
        return PassOrder(positions.astype(self._dtype), _count_repeats(positions).astype(self._dtype))

    def _sample_by_weight(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw positions by systematic sampling (Kish, Survey Sampling, 1965).

        Each sample is drawn as often as its weight requires, rounded up or down, so that a pass is as close to the
        distribution as integer counts allow.
        """
        assert self.weights is not None
        shuffled = random.permutation(len(self))
        cumulative = np.cumsum(self.weights[shuffled]) * len(self)
        cumulative[-1] = len(self)  # exact in spite of rounding
        counts = np.diff(np.floor(cumulative + random.random()), prepend=0).astype(np.int64)
        drawn = np.repeat(shuffled, counts)[: len(self)]
        return random.permutation(drawn) if self.shuffle else np.sort(drawn)


def _count_repeats(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each entry the number of equal entries before it."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begin = np.maximum.accumulate(np.where(first, np.arange(len(positions)), 0))
    repeats = np.empty(len(positions), np.int64)
    repeats[order] = np.arange(len(positions)) - begin
    return repeats


class FixedSizeBatchSampler:
    """Batch sampler with a fixed batch size; in training, a batch may span two passes.

    Args:
        order: sampler of the samples.
        batch_size: samples per batch.
    """

    def __init__(self, order: Sampler, batch_size: int):
        self.order = order
        self.batch_size = batch_size
        self.batches_per_pass = -(-len(order) // batch_size)

    def draw(self, number: int) -> SampleRows:
        return self.order.rows_at(number * self.batch_size, self.batch_size)

    def draw_batches(self, first: int, count: int) -> Sequence[SampleRows]:
        return list(self.order.rows_at(first * self.batch_size, count * self.batch_size).reshape(count, -1, 3))

    def iter_pass(self) -> Iterator[SampleRows]:
        return self.order.iter_pass(0, self.batch_size)

    def num_batches(self, samples: int) -> int:
        return max(1, samples // self.batch_size)


class BucketBatchSampler:
    """Batch sampler that groups samples of similar length; each pass has the same batches and every sample once.

    Samples that do not fill a batch of their bucket move to the next longer bucket, so that at most one batch of a
    pass is not full.

    Args:
        order: sampler of the samples.
        batch_size: maximum number of samples per batch.
        lengths: length of each selected sample, shape (N,).
        boundaries: lengths at which a new bucket begins, ascending.
        max_batch_length: upper limit for the padded size of a batch, samples times longest sample; None for no limit.
    """

    def __init__(
        self,
        order: Sampler,
        batch_size: int,
        lengths: npt.NDArray[np.int64],
        boundaries: Sequence[int],
        max_batch_length: int | None,
    ):
        self.order = order
        self.batch_size = batch_size
        self.lengths = lengths
        self.boundaries = boundaries
        self.max_batch_length = max_batch_length
        self._cached_batches: dict[int, list[SampleRows]] = {}
        self.batches_per_pass = len(self._batches_of_pass(0))

    def draw(self, number: int) -> SampleRows:
        data_pass, position = divmod(number, self.batches_per_pass)
        return self._batches_of_pass(data_pass)[position]

    def draw_batches(self, first: int, count: int) -> Sequence[SampleRows]:
        return [self.draw(number) for number in range(first, first + count)]

    def iter_pass(self) -> Iterator[SampleRows]:
        return iter(self._batches_of_pass(0))

    def num_batches(self, samples: int) -> int:
        return max(1, round(samples * self.batches_per_pass / len(self.order)))

    def _batches_of_pass(self, data_pass: int) -> list[SampleRows]:
        batches = self._cached_batches.get(data_pass)
        if batches is None:
            batches = self._make_batches(data_pass)
            self._cached_batches = {data_pass: batches}
        return batches

    def _make_batches(self, data_pass: int) -> list[SampleRows]:
        rows = self.order.rows_of_pass(data_pass)
        lengths = self.lengths[self.order.indices.searchsorted(rows[:, INDEX])]
        members = bucket_by_length(lengths, self.boundaries, self.batch_size, self.max_batch_length)
        batches = [rows[positions] for positions in members]
        if not self.order.shuffle:
            return batches
        order = np.random.default_rng((self.order.seed, data_pass, 1)).permutation(len(batches))
        return [batches[number] for number in order]


def bucket_by_length(
    lengths: npt.NDArray[np.int64], boundaries: Sequence[int], batch_size: int, max_batch_length: int | None
) -> list[npt.NDArray[np.int64]]:
    """Return the positions of the samples of each batch, grouped by length.

    Samples that do not fill a batch of their bucket move to the next longer bucket, so that at most one batch is not
    full. Within a bucket the samples keep their order.

    Args:
        lengths: length of each sample, shape (N,).
        boundaries: see `BucketBatchSampler`.
        batch_size: see `BucketBatchSampler`.
        max_batch_length: see `BucketBatchSampler`.
    """
    bucket = np.searchsorted(np.asarray(boundaries), lengths, side="right")
    batches: list[npt.NDArray[np.int64]] = []
    remainder = np.zeros(0, np.int64)
    for number in range(len(boundaries) + 1):
        longest = int(lengths[bucket <= number].max(initial=1))
        size = min(batch_size, max(1, max_batch_length // longest)) if max_batch_length else batch_size
        positions = np.concatenate([remainder, np.flatnonzero(bucket == number)])
        full = len(positions) // size * size
        batches += [positions[begin : begin + size] for begin in range(0, full, size)]
        remainder = positions[full:]
    return [*batches, remainder] if len(remainder) else batches


def quantile_boundaries(lengths: npt.NDArray[np.int64], buckets: int) -> list[int]:
    """Return the boundaries of buckets with equally many samples.

    Args:
        lengths: length of each sample, shape (N,).
        buckets: number of buckets; fewer if many samples have the same length.
    """
    quantiles = np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:-1])
    boundaries = sorted({int(np.ceil(q)) for q in quantiles})
    return [boundary for boundary in boundaries if lengths.min() < boundary]
