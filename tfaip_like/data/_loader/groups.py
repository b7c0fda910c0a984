"""Groups of samples that are processed together, where samples cannot be made one by one.

This is so after a `StreamProcessor`, which makes any number of samples of a group, and for sources without an index.
Each StreamProcessor begins a *level*: its groups are cut out of what the level before has made. What becomes of a group
is a function of the seed, its pass and its number, so groups are made in parallel, and come in their order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
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
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._sample import Sample, as_read_only

DEFAULT_GROUP_SIZE = 64
"""Samples in a group, where no StreamProcessor says otherwise."""

GroupPosition: TypeAlias = tuple[int, ...]
"""Where a group begins in its pass: its number; on a later level, its number, how many samples of a group of the level
before precede its first one, and the position of that group."""

FIRST_POSITION: GroupPosition = (0,)

END_OF_GROUP: Any = object()
"""Sentinel after the last sample of a group."""


@dataclass(frozen=True)
class SampleGroup:
    """Samples that are processed together."""

    level: int
    data_pass: int
    position: GroupPosition
    rows: Sequence[Row]
    samples: Sequence[Sample] | None = None
    """The samples of the rows, where they are not read by their index."""
    bad: Sequence[BadSample] = ()
    """Found on the levels before, and not reported yet."""
    dropped: Sequence[DroppedSample] = ()


@dataclass(frozen=True)
class GroupResult:
    """What became of a group."""

    level: int
    data_pass: int
    position: GroupPosition
    rows: Sequence[Row]
    samples: Sequence[Sample]
    """One for each row; none where only facts about them are wanted."""
    bad: Sequence[BadSample] = ()
    dropped: Sequence[DroppedSample] = ()
    lengths: Sequence[int] = ()
    """Of the samples, where batches are made by length."""
    classes: Sequence[Hashable] = ()
    """Of the samples, where they are asked for."""
    nbytes: int = 0
    """Size of the samples."""
    pickled: Sequence[bytes] = ()
    """The samples, where they are to be kept in a cache."""


def split_into_levels(processors: Sequence[Processor]) -> list[range]:
    """Return the numbers of the processors of each level; there is one even without a StreamProcessor."""
    streams = [n for n, processor in enumerate(processors) if isinstance(processor, StreamProcessor)]
    begins = [0, *streams[1:]]
    return [range(begin, end) for begin, end in itertools.pairwise([*begins, len(processors)])]


def group_sizes(processors: Sequence[Processor], default: int = DEFAULT_GROUP_SIZE) -> list[int]:
    """Return the samples in a group of each level.

    Args:
        default: without a StreamProcessor.
    """
    return [p.group for p in processors if isinstance(p, StreamProcessor)] or [default]


class GroupBuilder:
    """The work of a data process: what becomes of a group on its level.

    Args:
        measures: find out the lengths of finished samples.
        stats_only: keep no finished samples, only their number, lengths and classes.
        classify: find out the classes of finished samples.
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
        if group.rows:  # what was dropped before may be all that there is to report
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
        made = GroupResult(
            group.level,
            group.data_pass,
            group.position,
            rows,
            samples,
            [*group.bad, *self._bad],
            [*group.dropped, *self.samples.pop_dropped()],
        )
        return self._add_stats(made) if is_last else made

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being made."""
        return self.samples.describe_progress(progress)

    def _add_stats(self, made: GroupResult) -> GroupResult:
        return replace(
            made,
            lengths=[self._length(row, sample) for row, sample in zip(made.rows, made.samples, strict=True)]
            if self.measure_lengths
            else (),
            nbytes=sum(map(_nbytes, made.samples)),
            classes=[self.samples.data.class_label(sample) for sample in made.samples] if self.collect_labels else (),
            samples=() if self.stats_only else made.samples,
        )

    def _length(self, row: Row, sample: Sample) -> int:
        specs = {"inputs": self.samples.inputs, "targets": self.samples.targets}
        try:
            return compute_sample_length(sample, specs)
        except (KeyError, ValueError):
            validate_sample(sample, self.samples.describe_sample(row[INDEX]), self.samples.inputs, self.samples.targets)
            raise

    def _iter_inputs(self, group: SampleGroup) -> Iterator[tuple[Row, Sample]]:
        for place, row in enumerate(group.rows):
            self.progress[:] = (*row, 0, self.progress[4] + 1)
            given = group.samples

            def read() -> Sample | None:
                index = row[INDEX]  # noqa: B023
                return self.samples.read(index) if given is None else self.samples.as_sample(given[place], index)  # noqa: B023

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
        """Yield what a StreamProcessor makes, with the row of the sample that it was made of, as far as that is known.

        If all samples of the group were asked for before, that is the first of them.
        """
        stage = number + 1
        pulled = _UpstreamSamples(stream, lambda: self._set_stage(stage))
        number_in_pass = group.position[0]
        made = self._run_stream_processor(processor, pulled, self.make_rng(group, stage), group)
        for repeat in itertools.count(number_in_pass << 32):
            self._set_stage(stage)
            begin, upstream = time.perf_counter(), pulled.seconds
            sample = next(made, END_OF_GROUP)
            self.samples.seconds[stage] += time.perf_counter() - begin - (pulled.seconds - upstream)
            if sample is END_OF_GROUP:
                return
            if not isinstance(sample, Sample):
                made_instead = with_article(type(sample).__name__)
                message = f"{type(processor).__name__}.process_group made {made_instead}, not a Sample"
                raise CodeError(message, processor.process_group)
            origin = group.rows[0] if pulled.is_exhausted or pulled.row is None else pulled.row
            yield (group.data_pass, origin[INDEX], repeat), sample

    def make_rng(self, group: SampleGroup, stage: int) -> np.random.Generator:
        """Return the generator of a StreamProcessor for a group."""
        return np.random.default_rng((self.samples.seed, group.data_pass, stage, group.position[0]))

    def _run_stream_processor(
        self, processor: StreamProcessor, pulled: _UpstreamSamples, random: np.random.Generator, group: SampleGroup
    ) -> Iterator[Sample]:
        try:
            with attribute_errors_to(processor.process_group):
                yield from processor.process_group(pulled.samples(), random)
        except DropSample as drop:
            raise CodeError(
                f"{type(processor).__name__}.process_group raised DropSample ({drop}), which would end its whole "
                "group: yield nothing for a sample that is to be left out, or drop it in a processor of its own",
                processor.process_group,
            ) from drop
        except Exception as error:
            first = group.rows[0][INDEX]
            place = f"the group of samples that begins with {self.samples.describe_sample(first)}"
            if not pulled.is_exhausted and pulled.row is not None and pulled.row[INDEX] != first:
                place = f"{self.samples.describe_sample(pulled.row[INDEX])}, in {place}"
            self._handle_bad_sample(error, pulled.row[INDEX] if pulled.row else first, place)

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
        """Note a bad sample, or raise its error, as the data say."""
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
    """The samples of a group as a StreamProcessor asks for them.

    Attributes:
        row: of the latest.
        is_exhausted: whether it has asked for more than there are.
        seconds: time that making them took.
    """

    def __init__(self, stream: Iterator[tuple[Row, Sample]], back: Callable[[], None]):
        self._stream = stream
        self._on_return = back
        self.row: Row | None = None
        self.is_exhausted = False
        self.seconds = 0.0

    def samples(self) -> Iterator[Sample]:
        """Yield them one by one."""
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
    samples: SampleReader, order: Sampler | None, data_pass: int, limit: int | None, size: int, first: int = 0
) -> Iterator[SampleGroup]:
    """Yield the groups of the first level in one pass.

    Args:
        order: of the samples of a source with an index.
        size: samples in a group.
        first: number of the group to begin with.
    """
    if order is not None:
        draw = order.rows_of_pass(data_pass)
        for number, begin in enumerate(range(first * size, len(draw), size), first):
            rows = [(int(row[0]), int(row[1]), int(row[2])) for row in draw[begin : begin + size]]
            yield SampleGroup(0, data_pass, (number,), rows)
        return
    given = _iter_timed(samples.source, samples)
    numbered = itertools.islice(enumerate(given), first * size, limit)
    for number in itertools.count(first):
        part = list(itertools.islice(numbered, size))
        if not part:
            return
        rows = [(data_pass, index, 0) for index, _ in part]
        yield SampleGroup(0, data_pass, (number,), rows, [sample for _, sample in part])


def _iter_timed(source: Iterable[Sample], samples: SampleReader) -> Iterator[Sample]:
    """Yield the samples of a source; the time that reading them takes counts as such."""
    iterator = iter(source)
    while True:
        begin = time.perf_counter()
        try:
            sample = next(iterator)
        except StopIteration:
            return
        samples.seconds[0] += time.perf_counter() - begin
        yield sample
