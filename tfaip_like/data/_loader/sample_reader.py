"""The samples of one mode of a scenario's data, each as the network sees it.

A sample is a pure function of the seed and its row (pass, index, repeat) of a draw. So it can be made
in any process, at any time, and is the same.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data
from tfaip_like.data._loader.batching import BadSample, Batch, check_sample, collate, name_sample
from tfaip_like.data._loader.cache import Cache
from tfaip_like.data._loader.dropped import Dropped, DropReport
from tfaip_like.data._loader.randomness import RandomOfRow
from tfaip_like.data._loader.sampler import INDEX, Draw
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._sample import Mode, Sample, protected, sample_of
from tfaip_like.data._sources.arrays import ArraySource

MODE_NAMES = {Mode.TRAIN: "training", Mode.EVALUATE: "validation", Mode.PREDICT: "prediction"}
FIRST_SUBSTITUTE = 2**32
"""Repeats from here on are of samples that stand in for another one."""
AT = 5
"""Numbers that tell what is being made: pass, index, repeat, stage, and how many samples were begun."""
MOST_SUBSTITUTES = 100
"""So many samples in a row may be missing before a batch is given up."""

Row = tuple[int, int, int]


class Samples:
    """Makes samples, and batches of them.

    Args:
        processors: instead of all those that the data have for the mode.

    Attributes:
        at: what is being made, see `AT`; stages are reading, the processors, batching. In a data process
            this is memory that the main process sees too, to say where it hangs.
        seconds: time that each stage has taken so far.
    """

    def __init__(self, data: Data, source: Any, mode: Mode, seed: int, processors: Sequence[Processor] | None = None):
        self.data = data
        self.source = source
        self.mode = mode
        self.inputs = dict(data.checked_specs("inputs"))
        self.targets = dict(data.checked_specs("targets")) if mode is not Mode.PREDICT else {}
        self.processors = list(data.checked_processors("pipeline", mode) if processors is None else processors)
        self.is_stream = any(isinstance(processor, StreamProcessor) for processor in self.processors)
        self.is_plain = isinstance(source, ArraySource) and not self.processors
        """Whether batches can be cut from arrays, without Python work per sample."""
        self.indices = np.arange(len(source)) if hasattr(source, "__len__") else np.zeros(0, np.int64)
        """The samples that are used, by their index in the source."""
        self.loss_weights: npt.NDArray[np.float32] | None = None
        """How much the loss of each sample counts, by its index."""
        self.class_weights: Mapping[Hashable, float] | None = None
        """How much the loss of each sample counts, by its class, where samples have no index of their own."""
        self.cache: Cache | None = None
        self.dropped: list[Dropped] = []
        """What processors dropped since it was last taken."""
        self.stages = ["reading", *(type(processor).__name__ for processor in self.processors), "batching"]
        self.seconds = np.zeros(len(self.stages))
        self.at = np.zeros(AT, np.int64)
        self.seed = seed
        self.random = RandomOfRow(seed)

    @property
    def has_weights(self) -> bool:
        """Return whether samples have loss weights."""
        return self.loss_weights is not None or self.class_weights is not None

    @property
    def is_static(self) -> bool:
        """Return whether all samples have the same shapes."""
        return all(spec.is_static for spec in (*self.inputs.values(), *self.targets.values()))

    def raw(self, index: int) -> Sample:
        """The sample as the source gives it."""
        begin = time.perf_counter()
        sample = self.as_sample(self.source[index], index)
        self.seconds[0] += time.perf_counter() - begin
        return sample

    def as_sample(self, given: object, index: int) -> Sample:
        """Return what the source gave as a sample, or raise `CodeError` when it is neither one nor (x, y)."""
        try:
            if isinstance(given, Sample):
                return given
            return sample_of(given, self.inputs, self.data.checked_specs("targets"))
        except ValueError as problem:
            raise CodeError(f"{self.place(index)} {problem}", *self.code_that_reads()) from None

    def read(self, index: int) -> Sample | None:
        """Return the sample as the source gives it, or as it is cached; None if a processor drops it."""
        if self.cache is None:
            return self.raw(index)
        begin = time.perf_counter()
        cached = self.cache.read(index)
        self.seconds[0] += time.perf_counter() - begin
        return cached

    def sample(self, index: int, data_pass: int = 0, repeat: int = 0) -> Sample | None:
        """The sample as the network sees it; None if a processor drops it."""
        row = (data_pass, index, repeat)
        self.at[:] = (*row, 0, self.at[4] + 1)
        try:
            read = self.read(index)
            first = self.cache.stages if self.cache is not None else 0
            return None if read is None else self.processed(read, row, first)
        except StopIteration as error:  # which would end a loop of ours without a word
            stopped = RuntimeError("generator raised StopIteration")  # what Python makes of it in a generator
            name_sample(stopped, self.place(index))
            raise stopped from error
        except Exception as error:
            name_sample(error, self.place(index))
            raise

    def processed(self, sample: Sample, row: Row, first: int = 0, end: int | None = None) -> Sample | None:
        """What the processors from number `first` on, up to `end`, make of a sample."""
        if not self.processors[first:end]:
            return sample
        now = time.perf_counter()
        sample = protected(sample)
        for stage, processor in enumerate(self.processors[first:end], first + 1):
            self.at[3] = stage
            reason = ""
            try:
                made = processor.process(sample, self.random.at(row, stage))
            except DropSample as drop:
                made, reason = None, str(drop)
            before, now = now, time.perf_counter()
            self.seconds[stage] += now - before
            if made is None:
                is_part = any(isinstance(earlier, StreamProcessor) for earlier in self.processors[: stage - 1])
                self.dropped.append(Dropped(row[INDEX], self.stages[stage], reason, is_part))
                return None
            processor.check_made(made)
            sample = made
        return sample

    def batch(self, draw: Draw) -> Batch:
        """The batch of the rows of a draw.

        Where a sample is dropped or bad, another one takes its place in training; otherwise the batch
        is smaller, and may be empty.

        Raises:
            UsageError: for a sample that does not fit its specification; names its index.
        """
        if self.is_plain:
            return self._cut(draw)
        bad: list[BadSample] = []
        rows: list[Row] = []
        samples = []
        for row in draw.tolist():
            made = self._made(tuple(row), bad)
            if made is None and self.mode is Mode.TRAIN:
                row, made = self._substitute(draw, tuple(row), bad)
            if made is not None:
                rows.append(tuple(row))
                samples.append(made)
        return self.collated(samples, rows, bad, self.take_dropped())

    def take_dropped(self) -> list[Dropped]:
        """Return what processors dropped since the last call."""
        taken, self.dropped = self.dropped, []
        return taken

    def collated(
        self,
        samples: Sequence[Sample],
        rows: Sequence[Row],
        bad: Sequence[BadSample] = (),
        dropped: Sequence[Dropped] = (),
    ) -> Batch:
        """Return samples as a batch."""
        begin = time.perf_counter()
        self.at[3] = len(self.stages) - 1
        if not samples:
            return Batch({name: np.zeros(0) for name in self.inputs}, {}, bad=bad, dropped=dropped)
        try:
            batch = collate(samples, self.inputs, self.targets)
        except UsageError:
            for (_, index, _), sample in zip(rows, samples, strict=True):
                self.check(sample, index)
            raise
        weights = self._weights(samples, rows)
        self.seconds[-1] += time.perf_counter() - begin
        return Batch(batch.inputs, batch.targets, weights, batch.meta, [index for _, index, _ in rows], bad, dropped)

    def place(self, index: int) -> str:
        """Which sample an index means, for a person."""
        described = getattr(self.source, "describe", None)
        where = f" ({described(index)})" if described else ""
        of = f" of {type(self.data).__name__}" if self.mode is not Mode.PREDICT else ""
        return f"{MODE_NAMES[self.mode]} sample {index}{of}{where}"

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """The sample and the stage that `at` tells of, for a person."""
        stage = f"{self.stages[int(at[3])]}, " if 0 < at[3] < len(self.stages) - 1 else ""
        return stage + self.place(int(at[INDEX]))

    def check_first(self, index: int) -> None:
        """Raises `UsageError` when the first sample does not fit its specification.

        All rows at once where batches are cut from arrays, because nothing looks at them later.
        """
        self._check_floats()
        if not self.is_stream and self.data.on_bad_sample == "raise":
            first = self.sample(index)
            if first is not None:
                self.check(first, index)
        if isinstance(self.source, ArraySource) and self.is_plain:
            for arrays, specs in ((self.source.inputs, self.inputs), (self.source.targets, self.targets)):
                for name, spec in specs.items():
                    if problem := spec.problem_with_values(arrays[name]):
                        message = f"{type(self.data).__name__}.source({self.mode}): {name!r} {problem}"
                        raise CodeError(message, self.data.source)

    def check(self, sample: Sample, index: int) -> None:
        """Check that a sample fits its specification.

        Raises:
            CodeError: when it does not; shows what made it last.
        """
        try:
            check_sample(sample, self.place(index), self.inputs, self.targets)
        except UsageError as problem:
            processes = [processor.process for processor in reversed(self.processors)]
            raise CodeError(str(problem), *processes, *self.code_that_reads()) from problem

    def code_that_reads(self) -> list[object]:
        """Return the code that reads samples, for `CodeError`: of the source, or of who made it."""
        methods = [getattr(type(self.source), name, None) for name in ("__getitem__", "__iter__")]
        return [*filter(None, methods), self.data.source]

    def _check_floats(self) -> None:
        """Raise `UsageError` where batches are cut from floats that their Spec cannot hold: NaN or too large ones."""
        if not (isinstance(self.source, ArraySource) and self.is_plain):
            return
        for arrays, specs in ((self.source.inputs, self.inputs), (self.source.targets, self.targets)):
            for name, spec in specs.items():
                if name in arrays and arrays[name].dtype.kind == "f":
                    rows, problem = spec.problem_with_floats(arrays[name])
                    used = np.intersect1d(np.array(rows, np.int64), self.indices)
                    if len(used):
                        raise UsageError(f"{self.place(int(used[0]))}: {name!r} {problem}")

    def _weights(self, samples: Sequence[Sample], rows: Sequence[Row]) -> npt.NDArray[np.float32] | None:
        if self.class_weights is not None:
            # A class that the counted pass did not have counts like an average one.
            weights = [self.class_weights.get(self.data.class_of(sample), 1.0) for sample in samples]
            return np.array(weights, np.float32)
        return None if self.loss_weights is None else self.loss_weights[[index for _, index, _ in rows]]

    def _made(self, row: Row, bad: list[BadSample]) -> Sample | None:
        data_pass, index, repeat = row
        if self.data.on_bad_sample == "raise":
            return self.sample(index, data_pass, repeat)
        try:
            sample = self.sample(index, data_pass, repeat)
            if sample is not None:
                self.check(sample, index)
            return sample
        except Exception as error:
            bad.append(BadSample(index, self.place(index), f"{type(error).__name__}: {error}"))
            return None

    def _substitute(self, draw: Draw, missing: Row, bad: list[BadSample]) -> tuple[Row, Sample]:
        """Another sample of the same batch, processed anew; a neighbour where the batch has no other."""
        data_pass, index, repeat = missing
        others = [other for other in dict.fromkeys(draw[:, INDEX].tolist()) if other != index]
        random = np.random.default_rng((data_pass, index, repeat))
        random.shuffle(others)
        place = int(np.searchsorted(self.indices, index))
        neighbours = np.take(self.indices, np.arange(place + 1, place + 1 + MOST_SUBSTITUTES), mode="wrap").tolist()
        for tried, other in enumerate([*others, *neighbours][:MOST_SUBSTITUTES]):
            row = (data_pass, other, FIRST_SUBSTITUTE + (repeat << 8) + tried)
            if (sample := self._made(row, bad)) is not None:
                return row, sample
        if bad:
            raise UsageError(
                f"{MOST_SUBSTITUTES} training samples of {type(self.data).__name__} in a row were dropped or bad; the "
                f"last bad one is {bad[-1].place}: {bad[-1].reason}"
            )
        reason = self.dropped[-1].reason if self.dropped else ""
        raise CodeError(
            f"{MOST_SUBSTITUTES} training samples of {type(self.data).__name__} in a row were dropped or bad, "
            f"the first of them sample {index}, the last in {self.stages[int(self.at[3])]}"
            f"{f': {reason}' if reason else '; does it return the sample?'}",
            *self._code_of_stage(int(self.at[3])),
        )

    def _code_of_stage(self, stage: int) -> list[object]:
        """Return the code of an author that does a stage."""
        return [self.processors[stage - 1].process] if 0 < stage <= len(self.processors) else []

    def _cut(self, draw: Draw) -> Batch:
        assert isinstance(self.source, ArraySource)
        begin = time.perf_counter()
        indices = draw[:, INDEX]
        inputs, targets = self.source.rows(indices)
        batch = Batch(
            {name: inputs[name].astype(spec.dtype, copy=False) for name, spec in self.inputs.items()},
            {name: targets[name].astype(spec.dtype, copy=False) for name, spec in self.targets.items()},
            None if self.loss_weights is None else self.loss_weights[indices],
            indices=indices.tolist(),
        )
        self.seconds[-1] += time.perf_counter() - begin
        return batch


def post_processed(
    samples: Samples, predicted: Iterable[tuple[int, Sample]], report: DropReport | None = None
) -> Iterator[Sample]:
    """Yield predicted samples after the post-processors of their data, without those that are dropped.

    Args:
        predicted: index in the source, and sample.
        report: takes what is dropped.
    """
    processors = samples.data.checked_processors("post_pipeline", samples.mode)
    for number, (index, sample) in enumerate(predicted):
        made: Sample | None = sample
        for stage, processor in enumerate(processors):
            assert made is not None
            reason = ""
            try:
                made = processor.process(made, samples.random.at((0, number, 0), stage))
            except DropSample as drop:
                made, reason = None, str(drop)
            processor.check_made(made)
            if made is None:
                if report is not None:
                    report.note([Dropped(index, type(processor).__name__, reason, samples.is_stream)], samples.place)
                break
        if made is not None:
            yield made
