"""Groups of samples that are processed together, where samples cannot be processed one by one.

This is the case for a `StreamProcessor`, which yields any number of samples per group, and for iterable-only sources.
Each StreamProcessor starts a *level*: its groups are formed from the results of the previous level. The result of a
group depends only on the seed, its pass and its number, so groups are processed in parallel and returned in order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to
from tfaip_like._utils.errors import with_article
from tfaip_like.data._data import compute_sample_length
from tfaip_like.data._loader.batching import BadSample, add_sample_note, validate_sample
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.sample_reader import Row, SampleReader
from tfaip_like.data._loader.sampler import INDEX, Sampler
from tfaip_like.data._loader.source_passes import SourcePasses
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._sample import Sample, as_read_only

DEFAULT_GROUP_SIZE = 64
"""Group size without a StreamProcessor."""

GroupPosition: TypeAlias = tuple[int, ...]
"""Start of a group in its pass: its number; on a later level, its number, the index of its first sample in the group of
the previous level, and the position of that group."""

FIRST_POSITION: GroupPosition = (0,)

END_OF_GROUP: Any = object()
"""Sentinel after the last sample of a group."""


@dataclass(frozen=True)
class SampleGroup:
    """Task: samples that are processed together."""

    level: int
    data_pass: int
    position: GroupPosition
    rows: Sequence[Row]
    samples: Sequence[Sample] | None = None
    """Samples of the rows; None to read them by index."""
    bad: Sequence[BadSample] = ()
    """Bad samples of previous levels that are not reported yet."""
    dropped: Sequence[DroppedSample] = ()


@dataclass(frozen=True)
class GroupResult:
    """Result of a group."""

    level: int
    data_pass: int
    position: GroupPosition
    rows: Sequence[Row]
    samples: Sequence[Sample]
    """Processed sample of each row; empty if only statistics are requested."""
    bad: Sequence[BadSample] = ()
    dropped: Sequence[DroppedSample] = ()
    lengths: Sequence[int] = ()
    """Length of each sample, for length buckets."""
    classes: Sequence[Hashable] = ()
    """Class of each sample, if requested."""
    nbytes: int = 0
    """Size of the samples in bytes."""
    pickled: Sequence[bytes] = ()
    """Pickled samples, for a cache."""


def split_into_levels(processors: Sequence[Processor]) -> list[range]:
    """Return the indices of the processors of each level; there is always at least one level."""
    streams = [n for n, processor in enumerate(processors) if isinstance(processor, StreamProcessor)]
    begins = [0, *streams[1:]]
    return [range(begin, end) for begin, end in itertools.pairwise([*begins, len(processors)])]


def group_sizes(processors: Sequence[Processor], default: int = DEFAULT_GROUP_SIZE) -> list[int]:
    """Return the group size of each level.

    Args:
        processors: processors of the pipeline.
        default: group size without a StreamProcessor.
    """
    return [p.group for p in processors if isinstance(p, StreamProcessor)] or [default]


class GroupBuilder:
    """Worker function that processes a group on its level.

    Args:
        samples: reader of the samples.
        measure_lengths: determine the lengths of finished samples.
        stats_only: return only number, lengths and classes of finished samples.
        collect_labels: determine the classes of finished samples.
    """

    def __init__(
        self,
        samples: SampleReader,
        measure_lengths: bool = False,
        stats_only: bool = False,
        collect_labels: bool = False,
    ):
        self.samples = samples
        self.levels = split_into_levels(samples.processors)
        self.measure_lengths = measure_lengths
        self.stats_only = stats_only
        self.collect_labels = collect_labels
        self.progress = samples.progress
        self.seconds = samples.seconds

    def __call__(self, group: SampleGroup) -> GroupResult:
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        self._bad: list[BadSample] = []
        self.samples.pop_dropped()
        numbers = self.levels[group.level]
        is_last = numbers.stop == len(self.samples.processors)
        stream, first = self._iter_inputs(group), numbers.start
        if group.samples is None and self.samples.cache is not None:
            first = self.samples.cache.stages
        if group.rows:  # a group without rows only reports samples dropped on previous levels
            for number in numbers:
                processor = self.samples.processors[number]
                if isinstance(processor, StreamProcessor):
                    stream = self._apply_processors(stream, first, number)
                    stream = self._apply_stream_processor(stream, processor, number, group)
                    first = number + 1
        rows, samples = [], []
        for row, sample in self._apply_processors(stream, first, numbers.stop, is_last):
            rows.append(row)
            samples.append(sample)
        result = GroupResult(
            group.level,
            group.data_pass,
            group.position,
            rows,
            samples,
            [*group.bad, *self._bad],
            [*group.dropped, *self.samples.pop_dropped()],
        )
        return self._add_stats(result) if is_last else result

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being processed."""
        return self.samples.describe_progress(progress)

    def _add_stats(self, result: GroupResult) -> GroupResult:
        data, samples = self.samples.data, result.samples
        return replace(
            result,
            lengths=list(map(self._length, result.rows, samples)) if self.measure_lengths else (),
            nbytes=sum(map(_nbytes, samples)),
            classes=[data.class_label(sample) for sample in samples] if self.collect_labels else (),
            samples=() if self.stats_only else samples,
        )

    def _length(self, row: Row, sample: Sample) -> int:
        specs = {"inputs": self.samples.inputs, "targets": self.samples.targets}
        try:
            return compute_sample_length(sample, specs)
        except (KeyError, ValueError):
            validate_sample(sample, self.samples.describe_sample(row[INDEX]), self.samples.inputs, self.samples.targets)
            raise

    def _iter_inputs(self, group: SampleGroup) -> Iterator[tuple[Row, Sample]]:
        for position, row in enumerate(group.rows):
            self.samples.mark_begin(row)
            items = group.samples

            def read() -> Sample | None:
                index = row[INDEX]  # noqa: B023
                return self.samples.read(index) if items is None else self.samples.as_sample(items[position], index)  # noqa: B023

            with_row = self._try_make(row, read)
            if with_row is not None:
                yield with_row

    def _apply_processors(
        self, stream: Iterator[tuple[Row, Sample]], first: int, end: int, is_last: bool = False
    ) -> Iterator[tuple[Row, Sample]]:
        checks = is_last and self.samples.data.on_bad_sample == "skip"
        if first == end and not checks:
            return stream
        return self._iter_processed(stream, first, end, checks)

    def _iter_processed(
        self, stream: Iterator[tuple[Row, Sample]], first: int, end: int, checks: bool
    ) -> Iterator[tuple[Row, Sample]]:
        for row, sample in stream:
            with_row = self._try_make(row, lambda: self.samples.apply_processors(sample, row, first, end), checks)  # noqa: B023
            if with_row is not None:
                yield with_row

    def _apply_stream_processor(
        self, stream: Iterator[tuple[Row, Sample]], processor: StreamProcessor, number: int, group: SampleGroup
    ) -> Iterator[tuple[Row, Sample]]:
        """Yield the results of a StreamProcessor with the row of the sample that each was made from.

        This is the last sample that the processor has requested, or the first of the group if it has requested all.
        """
        stage = number + 1
        upstream_samples = _UpstreamSamples(stream, lambda: self._set_stage(stage))
        number_in_pass = group.position[0]
        results = self._run_stream_processor(processor, upstream_samples, self.make_rng(group, stage), group)
        for repeat in itertools.count(number_in_pass << 32):
            self._set_stage(stage)
            begin, upstream_seconds = time.perf_counter(), upstream_samples.seconds
            sample = next(results, END_OF_GROUP)
            self.samples.seconds[stage] += time.perf_counter() - begin - (upstream_samples.seconds - upstream_seconds)
            if sample is END_OF_GROUP:
                return
            if not isinstance(sample, Sample):
                kind = with_article(type(sample).__name__)
                message = f"{type(processor).__name__}.process_group yielded {kind}, expected a Sample"
                raise CodeError(message, processor.process_group)
            origin = (
                group.rows[0] if upstream_samples.is_exhausted or upstream_samples.row is None else upstream_samples.row
            )
            yield (group.data_pass, origin[INDEX], repeat), sample

    def make_rng(self, group: SampleGroup, stage: int) -> np.random.Generator:
        """Return the generator of a StreamProcessor for a group."""
        return np.random.default_rng((self.samples.seed, group.data_pass, stage, group.position[0]))

    def _run_stream_processor(
        self,
        processor: StreamProcessor,
        upstream_samples: _UpstreamSamples,
        random: np.random.Generator,
        group: SampleGroup,
    ) -> Iterator[Sample]:
        try:
            with attribute_errors_to(processor.process_group):
                yield from processor.process_group(upstream_samples.samples(), random)
        except DropSample as drop:
            raise CodeError(
                f"{type(processor).__name__}.process_group raised DropSample ({drop}), which would drop the rest of "
                "the group; skip the sample without yielding, or drop it in a separate processor",
                processor.process_group,
            ) from drop
        except Exception as error:
            first = group.rows[0][INDEX]
            place = f"the group that begins with {self.samples.describe_sample(first)}"
            if (
                not upstream_samples.is_exhausted
                and upstream_samples.row is not None
                and upstream_samples.row[INDEX] != first
            ):
                place = f"{self.samples.describe_sample(upstream_samples.row[INDEX])}, in {place}"
            self._handle_bad_sample(error, upstream_samples.row[INDEX] if upstream_samples.row else first, place)

    def _try_make(self, row: Row, make: Callable[[], Sample | None], checks: bool = False) -> tuple[Row, Sample] | None:
        try:
            sample = make()
            if sample is not None and not isinstance(sample, Sample):
                message = (
                    f"{self.samples.describe_sample(row[INDEX])} is {with_article(type(sample).__name__)}, not a Sample"
                )
                raise CodeError(message, *self.samples.get_reader_code())
            if checks and sample is not None:
                self.samples.check(sample, row[INDEX])
        except Exception as error:
            self._handle_bad_sample(error, row[INDEX], self.samples.describe_sample(row[INDEX]))
            return None
        return None if sample is None else (row, sample)

    def _handle_bad_sample(self, error: Exception, index: int, place: str) -> None:
        """Record a bad sample, or raise its error, as set by `Data.on_bad_sample`."""
        if self.samples.data.on_bad_sample == "raise":
            add_sample_note(error, place)
            raise error
        self._bad.append(BadSample(index, place, f"{type(error).__name__}: {error}"))

    def _set_stage(self, stage: int) -> None:
        self.progress[3] = stage


def _nbytes(sample: Sample) -> int:
    values = (*sample.inputs.values(), *sample.targets.values())
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


class _UpstreamSamples:
    """Input samples of a StreamProcessor, with a record of what it has requested.

    Args:
        stream: rows and samples of the group.
        on_return: called before control returns to the processor.

    Attributes:
        row: row of the last requested sample.
        is_exhausted: the processor has requested more samples than the group has.
        seconds: total time spent on making the samples.
    """

    def __init__(self, stream: Iterator[tuple[Row, Sample]], on_return: Callable[[], None]):
        self._stream = stream
        self._on_return = on_return
        self.row: Row | None = None
        self.is_exhausted = False
        self.seconds = 0.0

    def samples(self) -> Iterator[Sample]:
        """Yield the samples, read-only."""
        while True:
            begin = time.perf_counter()
            item = next(self._stream, None)
            self.seconds += time.perf_counter() - begin
            self._on_return()
            if item is None:
                self.is_exhausted = True
                return
            self.row, sample = item
            yield as_read_only(sample)


def iter_groups(
    samples: SampleReader,
    order: Sampler | None,
    data_pass: int,
    limit: int | None,
    size: int,
    first: int = 0,
    passes: SourcePasses | None = None,
) -> Iterator[SampleGroup]:
    """Yield the groups of the first level in one pass.

    Args:
        samples: reader of the samples.
        order: sampler of a random-access source; None for an iterable-only source.
        data_pass: number of the pass, from 0.
        limit: maximum number of samples of an iterable-only source.
        size: group size.
        first: number of the first group.
        passes: passes over an iterable-only source; by default new ones.
    """
    if order is not None:
        for number, draw in enumerate(order.iter_pass(data_pass, size, first), first):
            rows = [(int(row[0]), int(row[1]), int(row[2])) for row in draw]
            yield SampleGroup(0, data_pass, (number,), rows)
        return
    passes = passes or SourcePasses(samples)
    items = _iter_timed(passes.read(data_pass, first * size), samples)
    numbered = itertools.islice(enumerate(items, first * size), None if limit is None else max(0, limit - first * size))
    for number in itertools.count(first):
        members = list(itertools.islice(numbered, size))
        if not members:
            return
        rows = [(data_pass, index, 0) for index, _ in members]
        yield SampleGroup(0, data_pass, (number,), rows, [sample for _, sample in members])


def _iter_timed(items: Iterator[Sample], samples: SampleReader) -> Iterator[Sample]:
    """Yield the samples of a source, and add the time to the reading stage."""
    while True:
        begin = time.perf_counter()
        sample = next(items, END_OF_GROUP)
        if sample is END_OF_GROUP:
            return
        samples.seconds[0] += time.perf_counter() - begin
        yield sample
