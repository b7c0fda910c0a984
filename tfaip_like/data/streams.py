"""Samples that can only be read one after another: iterable sources, and processors that make many of some.

The samples of a pass are cut into groups. A group is made as a function of the seed, its pass and its
number, so groups are made in parallel, and come in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data.batching import BadSample, Batch, check_sample, name_sample
from tfaip_like.data.order import INDEX, Draw, Order
from tfaip_like.data.processors import StreamProcessor
from tfaip_like.data.samples import Row, Samples
from tfaip_like.errors import UsageError, article
from tfaip_like.sample import Sample

MOST_EMPTY = 1000
"""So many groups without a sample in a row are taken for a mistake."""
GROUP = 64
"""Samples in a group, usually."""


@dataclass(frozen=True)
class Group:
    """Samples that are processed together."""

    rows: Draw
    """Of the samples of the source."""
    raw: Sequence[Sample] | None = None
    """Those samples, where they have no index."""


@dataclass(frozen=True)
class Made:
    """What became of a group."""

    samples: Sequence[Sample]
    rows: Sequence[Row]
    bad: Sequence[BadSample]


class MakeGroups:
    """The work of a data process: the samples that a group becomes."""

    def __init__(self, samples: Samples):
        self.samples = samples
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, group: Group) -> Made:
        self.samples.at, self.samples.seconds = self.at, self.seconds
        self._bad: list[BadSample] = []
        stream = self._from_source(group)
        first = 0
        for number, processor in enumerate(self.samples.processors):
            if isinstance(processor, StreamProcessor):
                stream = self._mapped(stream, first, number)
                stream = self._streamed(stream, processor, number, tuple(group.rows[0].tolist()))
                first = number + 1
        made = list(self._mapped(stream, first, len(self.samples.processors)))
        return Made([sample for _, sample in made], [row for row, _ in made], self._bad)

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """The sample that is being made."""
        return self.samples.what_is_made(at)

    def _from_source(self, group: Group) -> Iterator[tuple[Row, Sample]]:
        for place, row in enumerate(group.rows.tolist()):
            self.at[:] = (*row, 0, self.at[4] + 1)
            with_row = self._guarded(row, lambda: group.raw[place] if group.raw else self.samples.raw(row[INDEX]))  # noqa: B023
            if with_row is not None:
                yield with_row

    def _mapped(self, stream: Iterator[tuple[Row, Sample]], first: int, end: int) -> Iterator[tuple[Row, Sample]]:
        for row, sample in stream:
            is_last = end == len(self.samples.processors)
            with_row = self._guarded(row, lambda: self.samples.processed(sample, row, first, end), is_last)  # noqa: B023
            if with_row is not None:
                yield with_row

    def _streamed(
        self, stream: Iterator[tuple[Row, Sample]], processor: StreamProcessor, number: int, row: Row
    ) -> Iterator[tuple[Row, Sample]]:
        self.at[3] = number + 1
        random = np.random.default_rng((self.samples.seed, *row, number))
        for repeat, sample in enumerate(self._of_group(processor, stream, random, row)):
            if not isinstance(sample, Sample):
                raise UsageError(f"{type(processor).__name__}.process_group made a {type(sample).__name__}, no Sample")
            yield (row[0], row[1], (row[2] << 32) + repeat), sample

    def _of_group(
        self, processor: StreamProcessor, stream: Iterator[tuple[Row, Sample]], random: np.random.Generator, row: Row
    ) -> Iterator[Sample]:
        try:
            yield from processor.process_group((sample for _, sample in stream), random)
        except Exception as error:
            place = f"the group of samples that begins with {self.samples.place(row[INDEX])}"
            if self.samples.data.on_bad_sample == "raise":
                name_sample(error, place)
                raise
            self._bad.append(BadSample(row[INDEX], place, f"{type(error).__name__}: {error}"))

    def _guarded(self, row: Row, make: Any, is_last: bool = False) -> tuple[Row, Sample] | None:
        try:
            sample = make()
            if sample is not None and not isinstance(sample, Sample):
                raise UsageError(f"{self.samples.place(row[INDEX])} is {article(type(sample).__name__)}, not a Sample")
            if is_last and sample is not None and self.samples.data.on_bad_sample == "skip":
                check_sample(sample, self.samples.place(row[INDEX]), self.samples.inputs, self.samples.targets)
        except Exception as error:
            place = self.samples.place(row[INDEX])
            if self.samples.data.on_bad_sample == "raise":
                name_sample(error, place)
                raise
            self._bad.append(BadSample(row[INDEX], place, f"{type(error).__name__}: {error}"))
            return None
        return None if sample is None else (row, sample)


def groups_of_pass(
    samples: Samples, order: Order | None, data_pass: int, limit: int | None, size: int = GROUP
) -> Iterator[Group]:
    """The groups of one pass.

    Args:
        size: samples in a group, where no processor says otherwise.
    """
    size = min(
        (processor.group for processor in samples.processors if isinstance(processor, StreamProcessor)), default=size
    )
    if order is not None:
        rows = order.of_pass(data_pass)
        yield from (Group(rows[begin : begin + size]) for begin in range(0, len(rows), size))
        return
    source: Iterable[Sample] = samples.source
    raw: list[Sample] = []
    begin = 0
    for index, sample in enumerate(source):
        if limit is not None and index >= limit:
            break
        raw.append(sample)
        if len(raw) == size:
            yield Group(_rows(data_pass, begin, size), raw)
            begin, raw = index + 1, []
    if raw:
        yield Group(_rows(data_pass, begin, len(raw)), raw)


def endless(groups_of: Callable[[int], Iterator[Group]], name: str) -> Iterator[Group]:
    """The groups of pass after pass.

    Raises:
        UsageError: when a pass has none.
    """
    for data_pass in itertools.count():
        is_empty = True
        for group in groups_of(data_pass):
            is_empty = False
            yield group
        if is_empty:
            raise UsageError(f"the source of {name} has no samples in pass {data_pass + 1} over it")


def batches_of(samples: Samples, made: Iterable[Made], batch_size: int) -> Iterator[Batch]:
    """Batches of all samples of the groups; the last one may be smaller."""
    waiting: list[tuple[Row, Sample]] = []
    bad: list[BadSample] = []
    empty = 0
    for group in made:
        empty = 0 if group.samples else empty + 1
        if empty == MOST_EMPTY:
            raise UsageError(f"{MOST_EMPTY} groups of samples in a row became nothing: no batch can be made")
        waiting += zip(group.rows, group.samples, strict=True)
        bad += group.bad
        while len(waiting) >= batch_size:
            yield _batch(samples, waiting[:batch_size], bad)
            waiting, bad = waiting[batch_size:], []
    if waiting or bad:
        yield _batch(samples, waiting, bad)


def _batch(samples: Samples, made: Sequence[tuple[Row, Sample]], bad: Sequence[BadSample]) -> Batch:
    return samples.collated([sample for _, sample in made], [row for row, _ in made], bad, 0)


def _rows(data_pass: int, begin: int, count: int) -> Draw:
    return np.stack([np.full(count, data_pass), np.arange(begin, begin + count), np.zeros(count, np.int64)], axis=1)
