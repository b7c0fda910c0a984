"""Reader of processed samples, and of batches of them.

A processed sample is a pure function of the seed and its row (pass, index, repeat) in a draw, so the result does not
depend on the process or the order in which samples are processed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data
from tfaip_like.data._loader.batch_processing import (
    first_batch_processor,
    fit_to_specs,
    stack_samples,
)
from tfaip_like.data._loader.batching import Allocator, BadSample, Batch, add_sample_note, collate, validate_sample
from tfaip_like.data._loader.cache import SampleCache
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.randomness import PerSampleRng
from tfaip_like.data._loader.sampler import INDEX, SampleRows
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._sample import Arrays, Mode, Sample, Spec, as_read_only, to_sample
from tfaip_like.data._sources.arrays import ArraySource, RowSource
from tfaip_like.data._sources.indexed import IndexRange, Indices, is_thread_safe

MODE_NAMES = {Mode.TRAIN: "training", Mode.EVALUATE: "validation", Mode.PREDICT: "prediction"}
SUBSTITUTE_REPEAT_OFFSET = 2**32
"""Repeat numbers from here on mark samples that replace a dropped or bad one."""
PROGRESS_SIZE = 5
"""Length of the progress marker: pass, index, repeat, stage, number of started samples."""
MAX_SUBSTITUTES = 100
"""Maximum number of consecutive dropped or bad samples before training fails."""

Row = tuple[int, int, int]


class SampleReader:
    """Reader of processed samples and batches.

    Args:
        data: data with the specifications and processors.
        source: source of the samples.
        mode: mode whose processors are applied.
        seed: random seed of the run.
        processors: processors to apply; by default those of `data` for the mode.

    Attributes:
        progress: progress marker, see `PROGRESS_SIZE`; the stages are reading, each processor, and batching. In a
            data worker it is shared memory, which shows the main process where a worker hangs.
        seconds: total time of each stage.
    """

    def __init__(self, data: Data, source: Any, mode: Mode, seed: int, processors: Sequence[Processor] | None = None):
        self.data = data
        self.source = source
        self.mode = mode
        self.inputs = dict(data.validate_specs("inputs"))
        self.targets = dict(data.validate_specs("targets")) if mode is not Mode.PREDICT else {}
        if mode is Mode.TRAIN:  # texts are for evaluators
            self.targets = {name: spec for name, spec in self.targets.items() if not spec.is_text}
        self.processors = list(data.validate_processors("pipeline", mode) if processors is None else processors)
        self.is_stream = any(isinstance(processor, StreamProcessor) for processor in self.processors)
        self.is_array_backed = isinstance(source, ArraySource) and not self.processors
        """Batches can be sliced from arrays, without Python code per sample."""
        self.indices: Indices = IndexRange(len(source) if hasattr(source, "__len__") else 0)
        """Indices of the selected samples in the source."""
        self.loss_weights: npt.NDArray[np.float32] | None = None
        """Loss weight by sample index; None for 1."""
        self.class_weights: Mapping[Hashable, float] | None = None
        """Loss weight by class, for samples without a fixed index."""
        self.cache: SampleCache | None = None
        self.end: int | None = None
        """Number of processors to apply; None for all."""
        self.dropped: list[DroppedSample] = []
        """Dropped samples since the last `pop_dropped`."""
        self.stages = ["reading", *(type(processor).__name__ for processor in self.processors), "batching"]
        self.seconds = np.zeros(len(self.stages))
        self.progress = np.zeros(PROGRESS_SIZE, np.int64)
        self.allocate: Allocator = np.empty
        """Allocates the arrays of batches; in a data worker, in the memory that they are transferred in."""
        self.seed = seed
        self.random = PerSampleRng(seed)

    @property
    def has_weights(self) -> bool:
        """Return whether samples have loss weights."""
        return self.loss_weights is not None or self.class_weights is not None

    @property
    def specs(self) -> Sequence[Spec]:
        """Return the specifications of all inputs and targets."""
        return (*self.inputs.values(), *self.targets.values())

    @property
    def is_static(self) -> bool:
        """Return whether all samples have the same shapes, of numbers."""
        return all(spec.is_static and not spec.is_text for spec in self.specs)

    @property
    def is_thread_safe(self) -> bool:
        """Return whether the processors and the source declare that several threads may run copies of them."""
        return all(map(is_thread_safe, [self.source, *self.processors]))

    def read_source(self, index: int) -> Sample:
        """Return the unprocessed sample of the source."""
        begin = time.perf_counter()
        sample = self.as_sample(self.source[index], index)
        self.seconds[0] += time.perf_counter() - begin
        return sample

    def as_sample(self, item: object, index: int) -> Sample:
        """Convert an item of the source to a sample; raise `CodeError` if it is neither a sample nor (x, y)."""
        try:
            if isinstance(item, Sample):
                return item
            return to_sample(item, self.inputs, self.data.validate_specs("targets"))
        except UsageError:
            raise
        except ValueError as error:
            raise CodeError(f"{self.describe_sample(index)} {error}", *self.get_reader_code()) from None

    def read(self, index: int) -> Sample | None:
        """Return the unprocessed or the cached sample; None if a cached stage drops it."""
        if self.cache is None:
            return self.read_source(index)
        begin = time.perf_counter()
        cached = self.cache.read(index)
        self.seconds[0] += time.perf_counter() - begin
        return cached

    def sample(self, index: int, data_pass: int = 0, repeat: int = 0) -> Sample | None:
        """Return the processed sample; None if a processor drops it."""
        row = (data_pass, index, repeat)
        self.mark_begin(row)
        try:
            sample = self.read(index)
            first = self.cache.stages if self.cache is not None else 0
            return None if sample is None else self.apply_processors(sample, row, first, self.end)
        except StopIteration as error:  # would silently end a loop over batches
            stopped = RuntimeError("generator raised StopIteration")  # as Python does inside generators
            add_sample_note(stopped, self.describe_sample(index))
            raise stopped from error
        except Exception as error:
            add_sample_note(error, self.describe_sample(index))
            raise

    def mark_begin(self, row: Row) -> None:
        """Set the progress marker to the beginning of a row."""
        progress = self.progress  # setting items takes half the time of setting a slice
        progress[0], progress[1], progress[2] = row
        progress[3] = 0
        progress[4] += 1

    def apply_processors(self, sample: Sample, row: Row, first: int = 0, end: int | None = None) -> Sample | None:
        """Apply the processors `first` up to `end` to a sample; return None if one drops it."""
        processors = self.processors[first:end]
        if not processors:
            return sample
        now = time.perf_counter()
        sample = as_read_only(sample)
        for stage, processor in enumerate(processors, first + 1):
            self.progress[3] = stage
            reason = ""
            try:
                result = processor.process(sample, self.random.generator_for(row, stage))
            except DropSample as drop:
                result, reason = None, str(drop)
            before, now = now, time.perf_counter()
            self.seconds[stage] += now - before
            if result is None:
                is_part = any(isinstance(earlier, StreamProcessor) for earlier in self.processors[: stage - 1])
                self.dropped.append(DroppedSample(row[INDEX], self.stages[stage], reason, is_part))
                return None
            processor.validate_result(result)
            sample = result
        return sample

    def batch(self, draw: SampleRows, out: Batch | None = None) -> Batch:
        """Return the batch of the rows of a draw, shape (batch, 3).

        In training, another sample replaces a dropped or bad one; in other modes the batch is smaller and may be
        empty.

        Args:
            draw: rows of the samples.
            out: batch to overwrite; by default a new one.

        Raises:
            UsageError: if a sample does not match its specification; names its index.
        """
        batch = self.read_rows(draw)
        if batch is None:
            batch = self._process_batch(draw)
        if batch is not None:
            return batch if out is None else batch.copy_to(out)
        bad: list[BadSample] = []
        samples, rows = self._make_samples(draw, bad)
        return self.collate_batch(samples, rows, bad, self.pop_dropped(), out)

    def _make_samples(self, draw: SampleRows, bad: list[BadSample]) -> tuple[list[Sample], list[Row]]:
        rows: list[Row] = []
        samples = []
        for row in map(tuple, draw.tolist()):
            sample = self._try_make(row, bad)
            if sample is None and self.mode is Mode.TRAIN:
                row, sample = self._make_substitute(draw, row, bad)
            if sample is not None:
                rows.append(row)
                samples.append(sample)
        return samples, rows

    def _process_batch(self, draw: SampleRows) -> Batch | None:
        """Return the batch of a draw whose last processors process it as a whole; None if they cannot."""
        first = max(first_batch_processor(self.processors), self.cache.stages if self.cache is not None else 0)
        if first == len(self.processors) or not self.is_static:
            return None
        bad: list[BadSample] = []
        head = copy.copy(self)
        head.end, head.dropped = first, []
        try:
            samples, rows = head._make_samples(draw, bad)
            begin = time.perf_counter()
            inputs, targets = stack_samples(samples)
            for stage, processor in enumerate(self.processors[first:], first + 1):
                self.progress[3] = stage
                inputs, targets = processor.process_batch(inputs, targets)
                self.seconds[stage] += time.perf_counter() - begin
                begin = time.perf_counter()
            return Batch(
                fit_to_specs(inputs, self.inputs, len(rows)),
                fit_to_specs(targets, self.targets, len(rows)),
                self._get_loss_weights(samples, rows),
                [sample.meta for sample in samples],
                [index for _, index, _ in rows],
                bad,
                head.pop_dropped(),
            )
        except Exception:  # processing one by one finds the sample
            return None

    def pop_dropped(self) -> list[DroppedSample]:
        """Return and clear the list of dropped samples."""
        dropped, self.dropped = self.dropped, []
        return dropped

    def collate_batch(
        self,
        samples: Sequence[Sample],
        rows: Sequence[Row],
        bad: Sequence[BadSample] = (),
        dropped: Sequence[DroppedSample] = (),
        out: Batch | None = None,
    ) -> Batch:
        """Collate samples to a batch.

        Args:
            samples: processed samples; may be empty.
            rows: row of each sample.
            bad: bad samples to report with the batch.
            dropped: dropped samples to report with the batch.
            out: batch to overwrite; by default a new one.

        Raises:
            CodeError: if a sample does not match its specification.
        """
        begin = time.perf_counter()
        self.progress[3] = len(self.stages) - 1
        if not samples:
            return Batch({name: np.zeros(0) for name in self.inputs}, {}, bad=bad, dropped=dropped)
        try:
            batch = collate(samples, self.inputs, self.targets, self.allocate, out)
        except UsageError:
            for (_, index, _), sample in zip(rows, samples, strict=True):
                self.check(sample, index)
            raise
        weights = self._get_loss_weights(samples, rows)
        self.seconds[-1] += time.perf_counter() - begin
        return Batch(batch.inputs, batch.targets, weights, batch.meta, [index for _, index, _ in rows], bad, dropped)

    def describe_sample(self, index: int) -> str:
        """Return a human-readable description of a sample index."""
        describe = getattr(self.source, "describe", None)
        where = f" ({describe(index)})" if describe else ""
        of = f" of {type(self.data).__name__}" if self.mode is not Mode.PREDICT else ""
        return f"{MODE_NAMES[self.mode]} sample {index}{of}{where}"

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Return a human-readable description of a progress marker: stage and sample."""
        stage = f"{self.stages[int(progress[3])]}, " if 0 < progress[3] < len(self.stages) - 1 else ""
        return stage + self.describe_sample(int(progress[INDEX]))

    def check(self, sample: Sample, index: int) -> None:
        """Check that a sample matches its specification.

        Raises:
            CodeError: if it does not; shows the last processor of user code.
        """
        try:
            validate_sample(sample, self.describe_sample(index), self.inputs, self.targets)
        except UsageError as error:
            processes = [processor.process for processor in reversed(self.processors)]
            raise CodeError(str(error), *processes, *self.get_reader_code()) from error

    def get_reader_code(self) -> list[object]:
        """Return the code that reads samples, for `CodeError`: methods of the source, and `Data.source`."""
        methods = [getattr(type(self.source), name, None) for name in ("__getitem__", "__iter__")]
        return [*filter(None, methods), self.data.source]

    def _get_loss_weights(self, samples: Sequence[Sample], rows: Sequence[Row]) -> npt.NDArray[np.float32] | None:
        if self.class_weights is not None:
            # A class that did not occur in the counted pass has the average weight.
            weights = [self.class_weights.get(self.data.class_label(sample), 1.0) for sample in samples]
            return np.array(weights, np.float32)
        return None if self.loss_weights is None else self.loss_weights[[index for _, index, _ in rows]]

    def _try_make(self, row: Row, bad: list[BadSample]) -> Sample | None:
        data_pass, index, repeat = row
        if self.data.on_bad_sample == "raise":
            return self.sample(index, data_pass, repeat)
        try:
            sample = self.sample(index, data_pass, repeat)
            if sample is not None and self.end is None:
                self.check(sample, index)
            return sample
        except Exception as error:
            bad.append(BadSample(index, self.describe_sample(index), f"{type(error).__name__}: {error}"))
            return None

    def _make_substitute(self, draw: SampleRows, missing: Row, bad: list[BadSample]) -> tuple[Row, Sample]:
        """Return a replacement: another sample of the batch with new randomness, else a neighbor in the source."""
        data_pass, index, repeat = missing
        others = [other for other in dict.fromkeys(draw[:, INDEX].tolist()) if other != index]
        random = np.random.default_rng((data_pass, index, repeat))
        random.shuffle(others)
        following = int(self.indices.searchsorted(index)) + 1 + np.arange(MAX_SUBSTITUTES)
        neighbors = self.indices[following % len(self.indices)].tolist()
        for tried, other in enumerate([*others, *neighbors][:MAX_SUBSTITUTES]):
            row = (data_pass, other, SUBSTITUTE_REPEAT_OFFSET + (repeat << 8) + tried)
            if (sample := self._try_make(row, bad)) is not None:
                return row, sample
        if bad:
            raise UsageError(
                f"{MAX_SUBSTITUTES} consecutive training samples of {type(self.data).__name__} were dropped or failed; "
                f"last failure: {bad[-1].place}: {bad[-1].reason}"
            )
        reason = self.dropped[-1].reason if self.dropped else ""
        raise CodeError(
            f"{MAX_SUBSTITUTES} consecutive training samples of {type(self.data).__name__} were dropped, "
            f"starting at sample {index}; {self.stages[int(self.progress[3])]} dropped the last one"
            f"{f': {reason}' if reason else ' (does its `process` return the sample?)'}",
            *self._get_stage_code(int(self.progress[3])),
        )

    def _get_stage_code(self, stage: int) -> list[object]:
        """Return the user code of a stage."""
        return [self.processors[stage - 1].process] if 0 < stage <= len(self.processors) else []

    def _slice_arrays(self, draw: SampleRows) -> Batch:
        assert isinstance(self.source, ArraySource)
        begin = time.perf_counter()
        batch = self._to_batch(draw, *self.source.rows(draw[:, INDEX]))
        self.seconds[-1] += time.perf_counter() - begin
        return batch

    def read_rows(self, draw: SampleRows) -> Batch | None:
        """Return the batch of rows that the source reads together; None if samples have to be read one by one."""
        if self.is_array_backed:
            return self._slice_arrays(draw)
        if not isinstance(self.source, RowSource) or self.processors or self.cache is not None:
            return None
        begin = time.perf_counter()
        self.progress[:] = (*draw[0], 0, self.progress[4] + 1)
        try:
            inputs, targets = self.source.rows(draw[:, INDEX])
        except Exception:  # reading one by one finds the sample
            return None
        for arrays, specs in ((inputs, self.inputs), (targets, self.targets)):
            for name, spec in specs.items():
                array = arrays.get(name)
                if array is None or array.shape[1:] != spec.shape or spec.dtype_validation_error(array):
                    return None
        self.seconds[0] += time.perf_counter() - begin
        return self._to_batch(draw, inputs, targets)

    def _to_batch(self, draw: SampleRows, inputs: Arrays, targets: Arrays) -> Batch:
        return Batch(
            {name: spec.convert(inputs[name]) for name, spec in self.inputs.items()},
            {name: spec.convert(targets[name]) for name, spec in self.targets.items()},
            None if self.loss_weights is None else self.loss_weights[draw[:, INDEX]],
            indices=draw[:, INDEX].tolist(),
        )
