"""Training data for the training step of each backend."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfaip_like._keras_ext.range_checks import check_int32_overflow
from tfaip_like._training.length_padding import LengthPadding
from tfaip_like._training.stack_ring import NUM_STACKS, Stack, StackRing
from tfaip_like._training.steps.training_model import to_model_inputs
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader, LoaderClosedError
from tfaip_like.data._loader.step_groups import group_steps
from tfaip_like.data._workers.background import Prefetcher

MIN_STEPS_PER_STACK = 2
"""XLA unrolls the loop over a stack of one step and sums its loss in a different order (measured: the last bit
differs). The steps per execution depend on the load of the machine; results must not."""
BATCHES_AHEAD = 2
"""Number of single batches that are built ahead, which hides the time of their transfer."""


class TrainingFeed:
    """Training batches from any step to the end of its epoch.

    A thread builds them ahead. Batches of equal shape are written to stacks, which the compiled steps read in place;
    others are passed on one at a time.

    Args:
        loader: training loader.
        epochs: number of epochs, which limits prefetching.
        steps_per_execution: maximum number of steps per execution.
        boundaries: see `group_steps`.
        bad_samples: record of dropped and failed samples.
        interrupt: notified of the phase "data"; checked while waiting for a batch.
        pads_lengths: pad batches of variable lengths, see `LengthPadding`.
    """

    def __init__(
        self,
        loader: DataLoader,
        epochs: int,
        steps_per_execution: int,
        boundaries: Sequence[int],
        bad_samples: BadSampleLog,
        interrupt: InterruptFlag,
        pads_lengths: bool = False,
    ):
        self._interrupt = interrupt
        self._loader: DataLoader | None = loader
        self._is_stacked = loader.yields_stacked_steps
        self._accumulate = loader.accumulate
        self._steps_per_epoch = loader.steps_per_epoch
        self._end_step = epochs * loader.steps_per_epoch
        self._steps_per_execution = steps_per_execution
        self._boundaries = boundaries
        self.bad_samples = bad_samples
        self._padding = LengthPadding(loader.samples.inputs, loader.samples.targets) if pads_lengths else None
        self._first_step = 0
        self._data: Iterator[Any] = iter(())
        self._executions: deque[range] = deque()
        self._stream: Iterator[Batch] = iter(())
        self._position = -1
        self.has_failed = False
        """Whether building a batch that a step waits for raised an exception or was interrupted."""
        self._wait_seconds = 0.0
        self._ring: StackRing | None = None
        self._stacks: deque[Stack] = deque()
        """Stacks that are written or wait to be read, in order."""
        self._prefetcher: Prefetcher[Any] | None = None

    def open(self, first: int) -> tuple[Iterator[Any], deque[range]]:
        """Return the data of the steps from `first` (of the run) to the end of its epoch.

        Batches that were prefetched before an interruption of the steps, by a validation, are used.

        Returns:
            The data for `TrainStep.run`, and the steps of each execution, which the caller removes before it runs them.
        """
        assert self._loader is not None
        if not self._executions or self._executions[0].start != first:
            self._close_data()
            self._first_step = first
            self._executions = deque(
                group_steps(first, self._epoch_end, self._steps_per_epoch, self._steps_per_execution, self._boundaries)
            )
            depth = NUM_STACKS if self._uses_ring else BATCHES_AHEAD
            self._prefetcher = Prefetcher(self._iter_elements(), depth, self._interrupt.check)
            self._data = self._read(self._prefetcher)
        return self._data, self._executions

    @property
    def _epoch_end(self) -> int:
        return (self._first_step // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _close_data(self) -> None:
        """Stop building the batches of the data that was opened before, and wait for the one in progress."""
        if self._executions and self._ring is not None:  # not read to its end: stacks may be lost
            self._ring.close()
            self._ring = None
            self._stacks.clear()
        if self._prefetcher is not None:
            self._prefetcher.close()

    @property
    def stack_size(self) -> int:
        """Return the number of batches in a stack; 0 if elements are single batches."""
        return max(self._steps_per_execution, MIN_STEPS_PER_STACK) * self._accumulate if self._uses_ring else 0

    def release(self) -> None:
        """End the threads, and release references to the loader."""
        if self._ring is not None:
            self._ring.close()
        if self._prefetcher is not None:
            self._prefetcher.stop()
        self._loader = self._ring = self._prefetcher = None
        self._stacks.clear()
        self._stream = self._data = iter(())

    def pop_wait_seconds(self) -> float:
        """Return the seconds spent waiting for batches since the last call."""
        seconds, self._wait_seconds = self._wait_seconds, 0.0
        return seconds

    def _read(self, elements: Iterator[Any]) -> Iterator[Any]:
        """Yield the elements; measure the time that they take, and note whether one fails."""
        while True:
            start = time.perf_counter()
            try:
                element = next(elements, None)
            except BaseException:
                self.has_failed = True
                raise
            self._wait_seconds += time.perf_counter() - start
            if element is None:
                return
            yield element

    @property
    def _uses_ring(self) -> bool:
        return self._is_stacked and keras.backend.backend() != "torch"

    def _iter_elements(self) -> Iterator[Any]:
        """Yield what a step reads at a time: stacks, or model inputs of single batches."""
        for batch in self._iter_batches():
            if self._uses_ring:
                yield self._stacks.popleft()
            elif self._padding is not None:
                yield to_model_inputs(self._padding(batch))
            else:
                yield from map(to_model_inputs, batch.unstack() if self._is_stacked else [batch])

    def _acquire_stack(self) -> Batch:
        assert self._loader is not None
        if self._ring is None:
            self._ring = StackRing(self._loader, self.stack_size)
        self._stacks.append(self._ring.acquire())
        return self._stacks[-1].batch

    def _iter_batches(self) -> Iterator[Batch]:
        """Yield the batches, or the stacks of batches, up to the end of the epoch."""
        try:
            for batch in self._iter_rest_of_epoch():
                self.bad_samples.record(batch.bad)
                if len(batch):
                    check_int32_overflow("input", batch.inputs)
                    check_int32_overflow("target", batch.targets)
                    yield batch
        except LoaderClosedError:
            return

    def _iter_rest_of_epoch(self) -> Iterator[Batch]:
        if self._loader is None:
            return
        # One stream for all epochs, because data workers prefetch beyond the end of an epoch.
        if self._position != self._first_step:
            self._stream = self._loader.iter_training(
                self._first_step,
                self._end_step,
                self._steps_per_execution,
                self._boundaries,
                self._acquire_stack if self._uses_ring else None,
            )
            self._position = self._first_step
        num_batches = 0
        while self._position < self._epoch_end:
            self._interrupt.report_phase("data")
            batch = next(self._stream)
            if self._is_stacked:
                self._position += len(batch) // self._accumulate
            else:
                num_batches += 1
                self._position += num_batches % self._accumulate == 0
            yield batch
