"""Which samples each batch holds: pure functions of the seed and the number of the batch.

A *draw* is an array with a row (pass, index, repeat) for each sample: the pass over the data, the
index in the source, and how often the pass had this sample before (more than once where samples are
drawn by weights). A row is all that the randomness of a sample depends on, beside the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

SampleRows: TypeAlias = npt.NDArray[np.int64]

PASS, INDEX, REPEAT = range(3)


class BatchSampler(Protocol):
    """Draws by the number of their batch."""

    def draw(self, step: int) -> SampleRows:
        """The samples of a batch of the endless stream of training."""

    def iter_pass(self) -> Iterator[SampleRows]:
        """All batches of one pass, each sample once."""

    def num_batches(self, samples: int) -> int:
        """How many batches hold about so many samples."""


class Sampler:
    """The order of the samples in each pass.

    Args:
        indices: those that are used, by their index in the source, rising.
        weights: how often each is drawn, as probabilities; all equally if None.
    """

    def __init__(self, indices: npt.NDArray[np.int64], seed: int, shuffle: bool, weights: npt.ArrayLike | None = None):
        self.indices = indices
        self.seed = seed
        self.shuffle = shuffle
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self._passes: dict[int, SampleRows] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def rows_of_pass(self, data_pass: int) -> SampleRows:
        """The draw of one pass; the last two are kept, since a batch may lie in both."""
        rows = self._passes.get(data_pass)
        if rows is None:
            rows = self._draw_pass(data_pass)
            # A new dict, since several threads may ask.
            self._passes = {**dict(list(self._passes.items())[-1:]), data_pass: rows}
        return rows

    def rows_at(self, position: int, count: int) -> SampleRows:
        """`count` rows from a position of the endless sequence of passes on."""
        rows = []
        while count > 0:
            data_pass, place = divmod(position, len(self))
            rows.append(self.rows_of_pass(data_pass)[place : place + count])
            position, count = position + len(rows[-1]), count - len(rows[-1])
        return np.concatenate(rows)

    def _draw_pass(self, data_pass: int) -> SampleRows:
        random = np.random.default_rng((self.seed, data_pass))
        if self.weights is not None:
            places = self._sample_by_weight(random)
        else:
            places = random.permutation(len(self)) if self.shuffle else np.arange(len(self))
        repeats = _count_repeats(places) if self.weights is not None else np.zeros(len(self), np.int64)
        return np.stack([np.full(len(self), data_pass), self.indices[places], repeats], axis=1)

    def _sample_by_weight(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Systematic sampling (Kish, Survey Sampling, 1965): each sample is drawn as often as its weight
        says, rounded up or down, so a pass is as near to the distribution as whole numbers allow."""
        assert self.weights is not None
        shuffled = random.permutation(len(self))
        reached = np.cumsum(self.weights[shuffled]) * len(self)
        reached[-1] = len(self)  # whatever rounding made of it
        counts = np.diff(np.floor(reached + random.random()), prepend=0).astype(np.int64)
        drawn = np.repeat(shuffled, counts)[: len(self)]
        return random.permutation(drawn) if self.shuffle else np.sort(drawn)


def _count_repeats(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each entry, how many equal ones come before it."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begin = np.maximum.accumulate(np.where(first, np.arange(len(places)), 0))
    repeats = np.empty(len(places), np.int64)
    repeats[order] = np.arange(len(places)) - begin
    return repeats


class FixedSizeBatchSampler:
    """Batches of one size, pass after pass without a gap: those left over begin the next pass."""

    def __init__(self, order: Sampler, batch_size: int):
        self.order = order
        self.batch_size = batch_size

    def draw(self, step: int) -> SampleRows:
        return self.order.rows_at(step * self.batch_size, self.batch_size)

    def iter_pass(self) -> Iterator[SampleRows]:
        rows = self.order.rows_of_pass(0)
        return (rows[begin : begin + self.batch_size] for begin in range(0, len(rows), self.batch_size))

    def num_batches(self, samples: int) -> int:
        return max(1, samples // self.batch_size)


class BucketBatchSampler:
    """Batches of samples of about one length. Each pass has the same number of batches, and every sample once.

    Samples that do not fill a batch of their bucket go into the next longer one; so at most one batch
    of a pass is not full.

    Args:
        lengths: of each sample of the order.
        boundaries: lengths at which a new bucket begins, rising.
        max_batch_length: most that samples times the longest of a batch may be.
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

    def draw(self, step: int) -> SampleRows:
        data_pass, number = divmod(step, self.batches_per_pass)
        return self._batches_of_pass(data_pass)[number]

    def iter_pass(self) -> Iterator[SampleRows]:
        return iter(self._batches_of_pass(0))

    def num_batches(self, samples: int) -> int:
        return max(1, round(samples * self.batches_per_pass / len(self.order)))

    def _batches_of_pass(self, data_pass: int) -> list[SampleRows]:
        cut = self._cached_batches.get(data_pass)
        if cut is None:
            cut = self._make_batches(data_pass)
            self._cached_batches = {data_pass: cut}
        return cut

    def _make_batches(self, data_pass: int) -> list[SampleRows]:
        rows = self.order.rows_of_pass(data_pass)
        lengths = self.lengths[np.searchsorted(self.order.indices, rows[:, INDEX])]
        cut = bucket_by_length(lengths, self.boundaries, self.batch_size, self.max_batch_length)
        batches = [rows[places] for places in cut]
        if not self.order.shuffle:
            return batches
        places = np.random.default_rng((self.order.seed, data_pass, 1)).permutation(len(batches))
        return [batches[place] for place in places]


def bucket_by_length(
    lengths: npt.NDArray[np.int64], boundaries: Sequence[int], batch_size: int, max_batch_length: int | None
) -> list[npt.NDArray[np.int64]]:
    """Return the places of the samples of each batch, in buckets of about one length.

    Samples that do not fill a batch of their bucket go into the next longer one; so at most one batch is not full.
    Within a bucket the samples keep their order.

    Args:
        lengths: of all samples.
        boundaries: see `BucketBatchSampler`, as is the rest.
    """
    bucket = np.searchsorted(np.asarray(boundaries), lengths, side="right")
    batches: list[npt.NDArray[np.int64]] = []
    left = np.zeros(0, np.int64)
    for number in range(len(boundaries) + 1):
        longest = int(lengths[bucket <= number].max(initial=1))
        size = min(batch_size, max(1, max_batch_length // longest)) if max_batch_length else batch_size
        places = np.concatenate([left, np.flatnonzero(bucket == number)])
        full = len(places) // size * size
        batches += [places[begin : begin + size] for begin in range(0, full, size)]
        left = places[full:]
    return [*batches, left] if len(left) else batches


def quantile_boundaries(lengths: npt.NDArray[np.int64], buckets: int) -> list[int]:
    """Boundaries for so many buckets (or fewer, where many samples have one length) with equally many samples."""
    quantiles = np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:-1])
    boundaries = sorted({int(np.ceil(q)) for q in quantiles})
    return [boundary for boundary in boundaries if lengths.min() < boundary]
