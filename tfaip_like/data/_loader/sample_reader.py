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
from tfaip_like.data._loader.batching import BadSample, Batch, add_sample_note, collate, validate_sample
from tfaip_like.data._loader.cache import SampleCache
from tfaip_like.data._loader.dropped_samples import DroppedSample, DropReport
from tfaip_like.data._loader.randomness import PerSampleRng
from tfaip_like.data._loader.sampler import INDEX, SampleRows
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._sample import Mode, Sample, as_read_only, to_sample
from tfaip_like.data._sources.arrays import ArraySource

MODE_NAMES = {Mode.TRAIN: "training", Mode.EVALUATE: "validation", Mode.PREDICT: "prediction"}
SUBSTITUTE_REPEAT_OFFSET = 2**32
"""Repeats from here on are of samples that stand in for another one."""
PROGRESS_SIZE = 5
"""Numbers that tell what is being made: pass, index, repeat, stage, and how many samples were begun."""
MAX_SUBSTITUTES = 100
"""So many samples in a row may be missing before a batch is given up."""

Row = tuple[int, int, int]


class SampleReader:
    """Makes samples, and batches of them.

    Args:
        processors: instead of all those that the data have for the mode.

    Attributes:
        at: what is being made, see `PROGRESS_SIZE`; stages are reading, the processors, batching. In a data process
            this is memory that the main process sees too, to say where it hangs.
        seconds: time that each stage has taken so far.
    """

    def __init__(self, data: Data, source: Any, mode: Mode, seed: int, processors: Sequence[Processor] | None = None):
        self.data = data
        self.source = source
        self.mode = mode
        self.inputs = dict(data.validate_specs("inputs"))
        self.targets = dict(data.validate_specs("targets")) if mode is not Mode.PREDICT else {}
        self.processors = list(data.validate_processors("pipeline", mode) if processors is None else processors)
        self.is_stream = any(isinstance(processor, StreamProcessor) for processor in self.processors)
        self.is_array_backed = isinstance(source, ArraySource) and not self.processors
        """Whether batches can be cut from arrays, without Python work per sample."""
        self.indices = np.arange(len(source)) if hasattr(source, "__len__") else np.zeros(0, np.int64)
        """The samples that are used, by their index in the source."""
        self.loss_weights: npt.NDArray[np.float32] | None = None
        """How much the loss of each sample counts, by its index."""
        self.class_weights: Mapping[Hashable, float] | None = None
        """How much the loss of each sample counts, by its class, where samples have no index of their own."""
        self.cache: SampleCache | None = None
        self.dropped: list[DroppedSample] = []
        """What processors dropped since it was last taken."""
        self.stages = ["reading", *(type(processor).__name__ for processor in self.processors), "batching"]
        self.seconds = np.zeros(len(self.stages))
        self.progress = np.zeros(PROGRESS_SIZE, np.int64)
        self.seed = seed
        self.random = PerSampleRng(seed)

    @property
    def has_weights(self) -> bool:
        """Return whether samples have loss weights."""
        return self.loss_weights is not None or self.class_weights is not None

    @property
    def is_static(self) -> bool:
        """Return whether all samples have the same shapes."""
        return all(spec.is_static for spec in (*self.inputs.values(), *self.targets.values()))

    def read_source(self, index: int) -> Sample:
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
            return to_sample(given, self.inputs, self.data.validate_specs("targets"))
        except UsageError:
            raise
        except ValueError as problem:
            raise CodeError(f"{self.describe_sample(index)} {problem}", *self.get_reader_code()) from None

    def read(self, index: int) -> Sample | None:
        """Return the sample as the source gives it, or as it is cached; None if a processor drops it."""
        if self.cache is None:
            return self.read_source(index)
        begin = time.perf_counter()
        cached = self.cache.read(index)
        self.seconds[0] += time.perf_counter() - begin
        return cached

    def sample(self, index: int, data_pass: int = 0, repeat: int = 0) -> Sample | None:
        """The sample as the network sees it; None if a processor drops it."""
        row = (data_pass, index, repeat)
        self.progress[:] = (*row, 0, self.progress[4] + 1)
        try:
            read = self.read(index)
            first = self.cache.stages if self.cache is not None else 0
            return None if read is None else self.apply_processors(read, row, first)
        except StopIteration as error:  # which would end a loop of ours without a word
            stopped = RuntimeError("generator raised StopIteration")  # what Python makes of it in a generator
            add_sample_note(stopped, self.describe_sample(index))
            raise stopped from error
        except Exception as error:
            add_sample_note(error, self.describe_sample(index))
            raise

    def apply_processors(self, sample: Sample, row: Row, first: int = 0, end: int | None = None) -> Sample | None:
        """What the processors from number `first` on, up to `end`, make of a sample."""
        if not self.processors[first:end]:
            return sample
        now = time.perf_counter()
        sample = as_read_only(sample)
        for stage, processor in enumerate(self.processors[first:end], first + 1):
            self.progress[3] = stage
            reason = ""
            try:
                made = processor.process(sample, self.random.generator_for(row, stage))
            except DropSample as drop:
                made, reason = None, str(drop)
            before, now = now, time.perf_counter()
            self.seconds[stage] += now - before
            if made is None:
                is_part = any(isinstance(earlier, StreamProcessor) for earlier in self.processors[: stage - 1])
                self.dropped.append(DroppedSample(row[INDEX], self.stages[stage], reason, is_part))
                return None
            processor.validate_result(made)
            sample = made
        return sample

    def batch(self, draw: SampleRows) -> Batch:
        """The batch of the rows of a draw.

        Where a sample is dropped or bad, another one takes its place in training; otherwise the batch
        is smaller, and may be empty.

        Raises:
            UsageError: for a sample that does not fit its specification; names its index.
        """
        if self.is_array_backed:
            return self._slice_arrays(draw)
        bad: list[BadSample] = []
        rows: list[Row] = []
        samples = []
        for row in draw.tolist():
            made = self._try_make(tuple(row), bad)
            if made is None and self.mode is Mode.TRAIN:
                row, made = self._make_substitute(draw, tuple(row), bad)
            if made is not None:
                rows.append(tuple(row))
                samples.append(made)
        return self.collate_batch(samples, rows, bad, self.pop_dropped())

    def pop_dropped(self) -> list[DroppedSample]:
        """Return what processors dropped since the last call."""
        taken, self.dropped = self.dropped, []
        return taken

    def collate_batch(
        self,
        samples: Sequence[Sample],
        rows: Sequence[Row],
        bad: Sequence[BadSample] = (),
        dropped: Sequence[DroppedSample] = (),
    ) -> Batch:
        """Return samples as a batch."""
        begin = time.perf_counter()
        self.progress[3] = len(self.stages) - 1
        if not samples:
            return Batch({name: np.zeros(0) for name in self.inputs}, {}, bad=bad, dropped=dropped)
        try:
            batch = collate(samples, self.inputs, self.targets)
        except UsageError:
            for (_, index, _), sample in zip(rows, samples, strict=True):
                self.check(sample, index)
            raise
        weights = self._get_loss_weights(samples, rows)
        self.seconds[-1] += time.perf_counter() - begin
        return Batch(batch.inputs, batch.targets, weights, batch.meta, [index for _, index, _ in rows], bad, dropped)

    def describe_sample(self, index: int) -> str:
        """Which sample an index means, for a person."""
        described = getattr(self.source, "describe", None)
        where = f" ({described(index)})" if described else ""
        of = f" of {type(self.data).__name__}" if self.mode is not Mode.PREDICT else ""
        return f"{MODE_NAMES[self.mode]} sample {index}{of}{where}"

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """The sample and the stage that `at` tells of, for a person."""
        stage = f"{self.stages[int(progress[3])]}, " if 0 < progress[3] < len(self.stages) - 1 else ""
        return stage + self.describe_sample(int(progress[INDEX]))

    def validate_first_sample(self, index: int) -> None:
        """Raises `UsageError` when the first sample does not fit its specification.

        All rows at once where batches are cut from arrays, because nothing looks at them later.
        """
        self._check_floats()
        if not self.is_stream and self.data.on_bad_sample == "raise":
            first = self.sample(index)
            if first is not None:
                self.check(first, index)
        if isinstance(self.source, ArraySource) and self.is_array_backed:
            for arrays, specs in ((self.source.inputs, self.inputs), (self.source.targets, self.targets)):
                for name, spec in specs.items():
                    if problem := spec.dtype_validation_error(arrays[name]):
                        message = f"{type(self.data).__name__}.source({self.mode}): {name!r} {problem}"
                        raise CodeError(message, self.data.source)

    def check(self, sample: Sample, index: int) -> None:
        """Check that a sample fits its specification.

        Raises:
            CodeError: when it does not; shows what made it last.
        """
        try:
            validate_sample(sample, self.describe_sample(index), self.inputs, self.targets)
        except UsageError as problem:
            processes = [processor.process for processor in reversed(self.processors)]
            raise CodeError(str(problem), *processes, *self.get_reader_code()) from problem

    def get_reader_code(self) -> list[object]:
        """Return the code that reads samples, for `CodeError`: of the source, or of who made it."""
        methods = [getattr(type(self.source), name, None) for name in ("__getitem__", "__iter__")]
        return [*filter(None, methods), self.data.source]

    def _check_floats(self) -> None:
        """Raise `UsageError` where batches are cut from floats that their Spec cannot hold: NaN or too large ones."""
        if not (isinstance(self.source, ArraySource) and self.is_array_backed):
            return
        for arrays, specs in ((self.source.inputs, self.inputs), (self.source.targets, self.targets)):
            for name, spec in specs.items():
                if name in arrays and arrays[name].dtype.kind == "f":
                    rows, problem = spec.find_unrepresentable_floats(arrays[name])
                    used = np.intersect1d(np.array(rows, np.int64), self.indices)
                    if len(used):
                        raise UsageError(f"{self.describe_sample(int(used[0]))}: {name!r} {problem}")

    def _get_loss_weights(self, samples: Sequence[Sample], rows: Sequence[Row]) -> npt.NDArray[np.float32] | None:
        if self.class_weights is not None:
            # A class that the counted pass did not have counts like an average one.
            weights = [self.class_weights.get(self.data.class_label(sample), 1.0) for sample in samples]
            return np.array(weights, np.float32)
        return None if self.loss_weights is None else self.loss_weights[[index for _, index, _ in rows]]

    def _try_make(self, row: Row, bad: list[BadSample]) -> Sample | None:
        data_pass, index, repeat = row
        if self.data.on_bad_sample == "raise":
            return self.sample(index, data_pass, repeat)
        try:
            sample = self.sample(index, data_pass, repeat)
            if sample is not None:
                self.check(sample, index)
            return sample
        except Exception as error:
            bad.append(BadSample(index, self.describe_sample(index), f"{type(error).__name__}: {error}"))
            return None

    def _make_substitute(self, draw: SampleRows, missing: Row, bad: list[BadSample]) -> tuple[Row, Sample]:
        """Another sample of the same batch, processed anew; a neighbour where the batch has no other."""
        data_pass, index, repeat = missing
        others = [other for other in dict.fromkeys(draw[:, INDEX].tolist()) if other != index]
        random = np.random.default_rng((data_pass, index, repeat))
        random.shuffle(others)
        place = int(np.searchsorted(self.indices, index))
        neighbours = np.take(self.indices, np.arange(place + 1, place + 1 + MAX_SUBSTITUTES), mode="wrap").tolist()
        for tried, other in enumerate([*others, *neighbours][:MAX_SUBSTITUTES]):
            row = (data_pass, other, SUBSTITUTE_REPEAT_OFFSET + (repeat << 8) + tried)
            if (sample := self._try_make(row, bad)) is not None:
                return row, sample
        if bad:
            raise UsageError(
                f"{MAX_SUBSTITUTES} training samples of {type(self.data).__name__} in a row were dropped or bad; the "
                f"last bad one is {bad[-1].place}: {bad[-1].reason}"
            )
        reason = self.dropped[-1].reason if self.dropped else ""
        raise CodeError(
            f"{MAX_SUBSTITUTES} training samples of {type(self.data).__name__} in a row were dropped or bad, "
            f"the first of them sample {index}, the last in {self.stages[int(self.progress[3])]}"
            f"{f': {reason}' if reason else '; does it return the sample?'}",
            *self._get_stage_code(int(self.progress[3])),
        )

    def _get_stage_code(self, stage: int) -> list[object]:
        """Return the code of an author that does a stage."""
        return [self.processors[stage - 1].process] if 0 < stage <= len(self.processors) else []

    def _slice_arrays(self, draw: SampleRows) -> Batch:
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


def apply_postprocessors(
    samples: SampleReader, predicted: Iterable[tuple[int, Sample]], report: DropReport | None = None
) -> Iterator[Sample]:
    """Yield predicted samples after the post-processors of their data, without those that are dropped.

    Args:
        predicted: index in the source, and sample.
        report: takes what is dropped.
    """
    processors = samples.data.validate_processors("post_pipeline", samples.mode)
    for number, (index, sample) in enumerate(predicted):
        made: Sample | None = sample
        for stage, processor in enumerate(processors):
            assert made is not None
            reason = ""
            try:
                made = processor.process(made, samples.random.generator_for((0, number, 0), stage))
            except DropSample as drop:
                made, reason = None, str(drop)
            processor.validate_result(made)
            if made is None:
                if report is not None:
                    report.record(
                        [DroppedSample(index, type(processor).__name__, reason, samples.is_stream)],
                        samples.describe_sample,
                    )
                break
        if made is not None:
            yield made
