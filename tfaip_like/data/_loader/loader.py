"""Data loader: the batches of a run.

Training reads an infinite stream of batches, each a pure function of the seed and its number. So the stream can start
at any batch in constant time, and the number of workers does not affect the batches. Where samples are processed in
groups (see `streams`), it can start at bookmarks only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.batch_builder import BatchBuilder
from tfaip_like.data._loader.batching import Batch, allocate_stack, copy_to_stack
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.dropped_samples import DropReport
from tfaip_like.data._loader.preparation import Preparation
from tfaip_like.data._loader.producer import BatchProducer
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sampler import BucketBatchSampler, FixedSizeBatchSampler, SampleRows
from tfaip_like.data._loader.step_groups import group_steps
from tfaip_like.data._loader.streams import Bookmark, BookmarkedBatch, StreamState
from tfaip_like.data._loader.windows import BlockSource
from tfaip_like.data._sample import Mode
from tfaip_like.data._settings import LoaderSettings
from tfaip_like.data._workers.background import call_in_thread, iterate_in_thread
from tfaip_like.data._workers.process import WorkerFunction

logger = logging.getLogger(__name__)

T = TypeVar("T")

STEPS_PER_ARRAY_SLICE = 256
"""Number of steps per slice of array-backed data."""
TARGET_TASK_S = 0.05
MAX_TASK_BYTES = 2**20


def no_check() -> None:
    """Do nothing; the default of `check` arguments."""


class LoaderClosedError(Exception):
    """Error of a thread that waits for a batch while the loader is closed."""


class DataLoader:
    """Data loader of one mode.

    Args:
        data: data of the scenario.
        source: source of the samples.
        settings: batch size, order, selection and number of workers.
        mode: mode whose processors are applied.
        seed: random seed of the run.
        group: flag group `train`, `val` or `lav`, for messages.
        samples_per_epoch: training samples in an epoch; None for the number of samples of the source.
        check: called while waiting for samples; raises to stop.
        accumulate: batches per training step.
        pass_counts: known counts of a pass, for samples that are processed in groups; by default they are counted.

    Attributes:
        bad: bad samples found before the first batch.
        steps_per_epoch: training steps in an epoch; 0 in other modes.

    Raises:
        UsageError: if the settings do not suit the source, or no sample is selected.
    """

    def __init__(
        self,
        data: Data,
        source: Source,
        settings: LoaderSettings,
        mode: Mode,
        seed: int,
        group: str,
        samples_per_epoch: int | None = None,
        check: Callable[[], None] = no_check,
        accumulate: int = 1,
        pass_counts: PassCounts | None = None,
    ):
        self.settings = settings
        self.group = group
        self.accumulate = accumulate
        self._check_stop = check
        self._is_closed = False
        self.producer = BatchProducer(settings, group, self._check)
        self.batch_size = settings.batch_size
        samples = SampleReader(data, source, mode, seed)
        self.dropped = DropReport(f"--{group}")
        counts = mode is Mode.TRAIN and samples_per_epoch is None
        prepared = Preparation(samples, settings, group, self.dropped, self._check, counts, pass_counts)
        self.samples = prepared.samples
        self.order = prepared.order
        self.batch_sampler = prepared.batch_sampler
        self.stream = prepared.stream
        self.pass_counts = prepared.pass_counts
        self.bad = prepared.bad
        self._steps_per_task = 0
        self._example: tuple[Batch, float] | None = None
        if samples_per_epoch is not None and samples_per_epoch < self.batch_size * accumulate:
            times = f" times --trainer.accumulate_steps {accumulate}" if accumulate > 1 else ""
            raise UsageError(
                f"--trainer.samples_per_epoch {samples_per_epoch} is less than one step (--train.batch_size "
                f"{self.batch_size}{times})"
            )
        self.steps_per_epoch = self._steps_per_epoch(samples_per_epoch) if mode is Mode.TRAIN else 0

    def _steps_per_epoch(self, samples_per_epoch: int | None) -> int:
        if samples_per_epoch is None and self.order is None and self.pass_counts is None:
            name = type(self.samples.data).__name__
            raise UsageError(f"--trainer.samples_per_epoch is required: the source of {name} has no __len__")
        if self.batch_sampler is not None:
            batches = self.batch_sampler.num_batches(samples_per_epoch or len(self))
        elif self.pass_counts is not None:
            batches = round((samples_per_epoch or len(self)) * self.pass_counts.batches / len(self))
        else:
            assert samples_per_epoch is not None
            batches = samples_per_epoch // self.batch_size
        return max(1, batches // self.accumulate)

    def __len__(self) -> int:
        """Return the number of samples of a pass; 0 if unknown."""
        if self.stream is not None:
            return self.pass_counts.samples if self.pass_counts is not None else 0
        return len(self.order) if self.order is not None else 0

    @property
    def num_batches(self) -> int | None:
        """Number of batches of one pass without dropped samples; None if unknown."""
        if self.batch_sampler is not None:
            return self.batch_sampler.batches_per_pass
        return None if self.pass_counts is None else self.pass_counts.batches

    @property
    def samples_per_epoch(self) -> int:
        """Number of training samples in an epoch; an estimate if batches differ in size."""
        batches = self.steps_per_epoch * self.accumulate
        if isinstance(self.batch_sampler, BucketBatchSampler):
            return round(batches * len(self) / self.batch_sampler.batches_per_pass)
        if self.pass_counts is not None and self.settings.has_buckets:
            return round(batches * self.pass_counts.samples / self.pass_counts.batches)
        return batches * self.batch_size

    @property
    def yields_stacked_steps(self) -> bool:
        """Return whether `iter_training` yields several batches stacked along a new first axis."""
        is_equal = (
            isinstance(self.batch_sampler, FixedSizeBatchSampler)
            if self.stream is None
            else not self.settings.has_buckets
        )
        return is_equal and self.samples.is_static and self.samples.mode is Mode.TRAIN

    # Resuming.

    def stream_state(self, step: int) -> StreamState | None:
        """Return the state to store in a checkpoint before a training step; None if there is none."""
        if self.stream is None:
            return None
        counts = self.pass_counts
        known = (counts.raw, counts.samples, counts.batches) if counts else None
        return self.stream.state(step * self.accumulate, known)

    def seek(self, step: int, state: StreamState | None, is_same: bool) -> None:
        """Continue at a training step without processing the samples before it.

        Args:
            step: training step.
            state: result of `stream_state`; None if samples were not processed in groups.
            is_same: the settings produce the same batches as before; if not, continue with the next pass.
        """
        if self.stream is None:
            return
        if state is not None and is_same:
            self.stream.resume(state.batch, state.bookmark, state.source)
            return
        done = state.bookmark.data_pass if state is not None else step // self.steps_per_epoch
        logger.info("data settings changed: resuming at the start of the next pass over the samples")
        self.stream.keep(step * self.accumulate, Bookmark(done + 1))

    # Batches.

    def batch(self, number: int) -> Batch:
        """Return a batch of the infinite training stream, built in this process."""
        if self.batch_sampler is not None:
            draw = self.batch_sampler.draw(number)
            return self.call_interruptible(lambda: self.samples.batch(draw))
        if number == 0:
            return self._first_stream_batch()
        return self.call_interruptible(lambda: next(self._iter_bookmarked(number, number + 1, in_this_process=True)))

    def iter_batches(self, first: int, end: int) -> Iterator[Batch]:
        """Yield the training batches from step `first` up to `end`, unstacked, with their indices and meta."""
        first, end = first * self.accumulate, end * self.accumulate
        if self.batch_sampler is None:
            return self._iter_bookmarked(first, end)
        draws = map(self.batch_sampler.draw, range(first, end))
        return self._run(BatchBuilder(self.samples, stacked=False), ([draw] for draw in draws))

    def make_step_batches(self, step: int) -> list[Batch]:
        """Return the batches of a training step, built in this process."""
        return [self.batch(step * self.accumulate + number) for number in range(self.accumulate)]

    def iter_training(
        self,
        first: int,
        end: int,
        steps_per_execution: int | None = None,
        boundaries: Sequence[int] = (),
        new_stack: Callable[[], Batch] | None = None,
    ) -> Iterator[Batch]:
        """Yield the training batches from step `first` up to `end`, stacked if `yields_stacked_steps`.

        Args:
            first: first step.
            end: step after the last one.
            steps_per_execution: maximum number of steps in a stack; by default chosen by the time they take.
            boundaries: see `group_steps`.
            new_stack: returns the arrays to write the next stack to, of shape (at least the number of its batches,
                batch size, ...); by default new ones are made.
        """
        remaining = self._report_after_batches
        for batch in self._iter_training(first, end, steps_per_execution, boundaries, new_stack):
            self.dropped.record(batch.dropped, self.samples.describe_sample)
            yield batch
            before, remaining = remaining, remaining - (len(batch) if self.yields_stacked_steps else 1)
            if before > 0 >= remaining:
                self.dropped.log(self._num_source_samples)

    def _iter_training(
        self,
        first: int,
        end: int,
        steps_per_execution: int | None,
        boundaries: Sequence[int],
        new_stack: Callable[[], Batch] | None,
    ) -> Iterator[Batch]:
        steps_per_execution = (
            (steps_per_execution or self.steps_per_task(end - first)) if self.yields_stacked_steps else 1
        )
        executions = group_steps(first, end, self.steps_per_epoch, steps_per_execution, boundaries)
        if self.batch_sampler is None:
            batches = self.iter_batches(first, end)
            if not self.yields_stacked_steps:
                yield from batches
                return
            for steps in executions:
                count = len(steps) * self.accumulate
                yield copy_to_stack(batches, count, new_stack() if new_stack else self._empty_stack(count))
            return
        sampler = self.batch_sampler
        draws = (
            sampler.draw_batches(steps.start * self.accumulate, len(steps) * self.accumulate) for steps in executions
        )
        tasks = draws if self.yields_stacked_steps else ([draw] for step in draws for draw in step)
        writes_to_stack = self.samples.is_array_backed and self.yields_stacked_steps
        work = BatchBuilder(self.samples, self.yields_stacked_steps, new_stack if writes_to_stack else None)
        for batch in self._run(work, tasks, steps_per_execution * self.accumulate):
            yield batch if writes_to_stack or new_stack is None else batch.copy_to(new_stack())

    def _empty_stack(self, count: int) -> Batch:
        return allocate_stack(count, self.batch_size, self.samples.inputs, self.samples.targets, np.empty)

    def first_batch(self) -> Batch | None:
        """Return the first batch of a pass, built in this process; None if there is none."""
        if self.batch_sampler is not None:
            draw = next(self.batch_sampler.iter_pass())
            return self.call_interruptible(lambda: self.samples.batch(draw))
        return self.call_interruptible(lambda: next(self._iter_stream_pass(in_this_process=True), None))

    def iter_pass(self) -> Iterator[Batch]:
        """Yield all batches of one pass; the last one, and those with dropped samples, may be smaller."""
        if self.batch_sampler is None:
            batches = self._iter_stream_pass()
        else:
            tasks = ([draw] for draw in self.batch_sampler.iter_pass())
            batches = self._run(BatchBuilder(self.samples, stacked=False), tasks)
        for batch in batches:
            self.dropped.record(batch.dropped, self.samples.describe_sample)
            yield batch
        self.dropped.log(self._num_source_samples)

    @property
    def _num_source_samples(self) -> int | None:
        """Number of selected source samples; None if unknown."""
        return len(self.order) if self.order is not None else None

    @property
    def _report_after_batches(self) -> int:
        """Number of batches after which dropped samples are reported: an epoch, or a pass of about the same length."""
        per_epoch, per_pass = self.steps_per_epoch * self.accumulate, self.num_batches
        return per_pass if per_pass is not None and 0 <= per_pass - per_epoch <= self.accumulate else per_epoch

    def _first_stream_batch(self) -> Batch:
        """Return the first training batch (cached), and measure the time per batch."""
        if self._example is None:
            begin = time.perf_counter()
            batch = self.call_interruptible(lambda: next(self._iter_bookmarked(0, 1, in_this_process=True)))
            # A whole block was processed for it.
            assert self.stream is not None
            fraction = min(1.0, len(batch) / max(1, self.stream.block_size))
            self._example = batch, fraction * (time.perf_counter() - begin)
        return self._example[0]

    def _iter_bookmarked(self, first: int, end: int, in_this_process: bool = False) -> Iterator[Batch]:
        """Yield batches of the infinite stream from `first` up to `end`, starting at the nearest bookmark."""
        assert self.stream is not None
        number, begin = self.stream.bookmark(first)
        for batch, next_begin in self._iter_stream(begin, is_endless=True, in_this_process=in_this_process):
            number += 1
            self.stream.keep(number, next_begin)
            if number > first:
                yield batch
            if number == end:
                return

    def _iter_stream_pass(self, in_this_process: bool = False) -> Iterator[Batch]:
        return (batch for batch, _ in self._iter_stream(Bookmark(), False, in_this_process))

    def _iter_stream(self, begin: Bookmark, is_endless: bool, in_this_process: bool) -> Iterator[BookmarkedBatch]:
        assert self.stream is not None
        if is_endless and not in_this_process and self.call_interruptible(self.stream.has_only_batches):
            return iterate_in_thread(self.stream.regrouped_batches(begin), self._check)
        chain, work = self.stream.chain(begin, is_endless), self.stream.work()
        if in_this_process:
            return self.stream.batches(chain.results(work), begin)
        results = map(chain.add_result, self.producer.run(work, chain.tasks()))
        return self.stream.batches((result for result in results if result is not None), begin)

    def _run(self, work: WorkerFunction, tasks: Iterable[Any], steps_per_execution: int = 1) -> Iterator[Any]:
        # Transferring array slices between processes would take longer than slicing.
        if self.samples.is_array_backed:
            return map(work, tasks)
        make_probe = self._make_probe if self.samples.is_thread_safe else None
        return self.producer.run(work, tasks, steps_per_execution, make_probe)

    def _make_probe(self, num_samples: int) -> list[SampleRows]:
        assert self.batch_sampler is not None
        return [np.resize(draw := next(self.batch_sampler.iter_pass()), (num_samples, draw.shape[1]))]

    def call_interruptible(self, make: Callable[[], T]) -> T:
        """Return the result of `make`; interruptible if it calls user code."""
        return make() if self.samples.is_array_backed else call_in_thread(make, self._check)

    def _check(self) -> None:
        self._check_stop()
        if self._is_closed:
            raise LoaderClosedError

    def steps_per_task(self, steps: int) -> int:
        """Return the number of steps per task, large enough that the overhead of the transfer is negligible."""
        if self.samples.is_array_backed:
            return max(1, min(STEPS_PER_ARRAY_SLICE, steps))
        if self._steps_per_task == 0:
            self._fill_source_buffer()
            begin = time.perf_counter()
            size = self.batch(0).nbytes()
            seconds = self._example[1] if self._example is not None else time.perf_counter() - begin
            fit = min(TARGET_TASK_S / seconds, MAX_TASK_BYTES / max(size, 1), self.producer.max_batches_per_task)
            self._steps_per_task = max(1, int(fit / self.accumulate))
        return max(1, min(self._steps_per_task, steps))

    def _fill_source_buffer(self) -> None:
        """Read the first batch of a source with blocks, which reads a whole window and would be measured as slow."""
        if isinstance(self.samples.source, BlockSource) and self.batch_sampler is not None:
            self.first_batch()

    def auto_select_num_workers(self, steps: int) -> None:
        """Choose the number of workers for `steps` batches, unless the user has set it."""
        if self.settings.num_processes is None and not self.samples.is_array_backed:
            self._fill_source_buffer()
            begin = time.perf_counter()
            if self.batch_sampler is None and self.samples.mode is Mode.TRAIN:
                self._first_stream_batch()
                assert self._example is not None
                seconds = self._example[1]
            else:
                self.first_batch()
                seconds = time.perf_counter() - begin
            self.producer.auto_select_num_workers(seconds * steps)

    def close(self) -> None:
        """Stop the workers and all threads that wait for a batch; report newly dropped samples."""
        self.dropped.log(self._num_source_samples)
        self._is_closed = True
        self.producer.close()
