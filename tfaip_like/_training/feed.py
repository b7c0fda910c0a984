"""Training data for the training step of each backend."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from tfaip_like._keras_ext.range_checks import check_int32_overflow
from tfaip_like._training.steps.training_model import to_model_inputs
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader, LoaderClosedError
from tfaip_like.data._sample import Spec

MIN_STEPS_PER_STACK = 2
"""XLA unrolls the loop over a stack of one step and sums its loss in a different order (measured: the last bit
differs). The steps per execution depend on the load of the machine; results must not."""


class TrainingFeed:
    """Training batches from any step to the end of its epoch.

    Args:
        loader: training loader.
        epochs: number of epochs, which limits prefetching.
        steps_per_execution: maximum number of steps per execution.
        boundaries: see `DataLoader.group_steps`.
        bad_samples: record of dropped and failed samples.
        interrupt: notified of the phase "data".
    """

    def __init__(
        self,
        loader: DataLoader,
        epochs: int,
        steps_per_execution: int,
        boundaries: Sequence[int],
        bad_samples: BadSampleLog,
        interrupt: InterruptFlag,
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
        self._first_step = 0
        self._data: Iterator[Any] = iter(())
        self._executions: deque[range] = deque()
        self._stream: Iterator[Batch] = iter(())
        self._position = -1
        self._errors: list[BaseException] = []
        self._wait_timer: Any = None
        self._last_wait_reading = 0.0
        # When an epoch is opened again (without XLA), the thread of the iterator before may still be building a batch.
        self._lock = threading.Lock()
        self._stack_size = 0
        """Maximum number of batches per element; 0 if elements are single batches."""
        self._tf_dataset: Any = None
        if loader.yields_stacked_steps and keras.backend.backend() != "torch":
            self._stack_size = max(steps_per_execution, MIN_STEPS_PER_STACK) * loader.accumulate
        if keras.backend.backend() == "tensorflow":
            self._tf_dataset = self._make_tf_dataset(loader)

    def open(self, first: int) -> tuple[Iterator[Any], deque[range]]:
        """Return the data of the steps from `first` (of the run) to the end of its epoch.

        Batches that were prefetched before an interruption of the steps, by a validation, are used.

        Returns:
            The data for `TrainStep.run`, and the steps of each execution, which the caller removes before it runs them.
        """
        assert self._loader is not None
        if not self._executions or self._executions[0].start != first:
            self._first_step = first
            self._executions = deque(
                self._loader.group_steps(first, self._epoch_end, self._steps_per_execution, self._boundaries)
            )
            self._data = self._iter_data()
        return self._data, self._executions

    @property
    def _epoch_end(self) -> int:
        return (self._first_step // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _iter_rest_of_epoch(self) -> Iterator[Batch]:
        if self._loader is None:
            return
        # One stream for all epochs, because data workers prefetch beyond the end of an epoch.
        if self._position != self._first_step:
            self._stream = self._loader.iter_training(
                self._first_step, self._end_step, self._steps_per_execution, self._boundaries
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

    def _iter_data(self) -> Iterator[Any]:
        """Return an iterator over the tf.data dataset, or over batches on other backends."""
        if self._tf_dataset is not None:
            return iter(self._tf_dataset)
        if self._wait_timer is None:
            self._wait_timer = WaitTimer()
        return _measure_wait(self._iter_elements(), self._wait_timer)

    def release(self) -> None:
        """Release references to the dataset (tf.data never frees its generators)."""
        self._loader = None
        self._stream = self._data = iter(())
        self._errors.clear()  # their tracebacks reference the dataset

    def pop_wait_seconds(self) -> float:
        """Return the seconds spent waiting for batches since the last call."""
        if self._wait_timer is None:
            return 0.0
        total = float(self._wait_timer.numpy())
        seconds, self._last_wait_reading = total - self._last_wait_reading, total
        return seconds

    @property
    def has_failed(self) -> bool:
        """Return whether building a batch raised an exception or was interrupted."""
        return bool(self._errors)

    @contextmanager
    def reraise_pipeline_errors(self) -> Iterator[None]:
        """Raise the original exception of the data pipeline instead of TensorFlow's wrapper."""
        try:
            yield
        except Exception:
            if self._errors:
                raise self._errors[0] from self._errors[0].__cause__
            raise

    def _iter_batches(self) -> Iterator[Batch]:
        stream = self._iter_rest_of_epoch()
        try:
            while True:
                with self._lock:
                    batch = next(stream, None)
                if batch is None:
                    return
                self.bad_samples.record(batch.bad)
                if len(batch):
                    check_int32_overflow("input", batch.inputs)
                    check_int32_overflow("target", batch.targets)
                    yield batch
        except LoaderClosedError:
            return
        except (Exception, Interrupted) as error:
            self._errors.append(error)
            raise

    def _iter_elements(self) -> Iterator[dict[str, Any]]:
        for batch in self._iter_batches():
            if self._stack_size:
                yield to_model_inputs(batch.zero_pad_to(self._stack_size))
            else:
                yield from map(to_model_inputs, batch.unstack() if self._is_stacked else [batch])

    def _make_tf_dataset(self, loader: DataLoader) -> Any:
        import tensorflow as tf

        samples = loader.samples
        leading = (self._stack_size, loader.batch_size) if self._stack_size else (None,)

        def signature(specs: Mapping[str, Spec]) -> dict[str, tf.TensorSpec]:
            return {name: tf.TensorSpec((*leading, *spec.shape), spec.dtype) for name, spec in specs.items()}

        element: dict[str, Any] = {"inputs": signature(samples.inputs), "targets": signature(samples.targets)}
        if samples.has_weights:
            element["weights"] = tf.TensorSpec(leading, "float32")
        dataset = tf.data.Dataset.from_generator(self._iter_elements, output_signature=element)
        # A stack already holds many batches; of single ones, two hide the transfer time.
        dataset = dataset.prefetch(1 if self._stack_size else 2)
        dataset, self._wait_timer = _measure_dataset_wait(dataset)
        options = tf.data.Options()
        options.autotune.enabled = False  # otherwise TensorFlow adds a buffer after the clock
        return dataset.with_options(options)


def _measure_dataset_wait(dataset: Any) -> tuple[Any, Any]:
    """Return the dataset, and a variable with the total seconds its reader has waited.

    tf.data reads the three parts of a zip in sequence, so the difference of the clocks on both sides is the waiting
    time. Measured cost: 0.1 ms per element.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def clock() -> Any:
        return tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def add_wait(before: Any, element: Any, after: Any) -> Any:
        waited.assign_add(after - before)
        return element

    return tf.data.Dataset.zip((clock(), dataset, clock())).map(add_wait), waited


class WaitTimer:
    """Total waiting time, with the interface of a TensorFlow variable."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def numpy(self) -> float:
        """Return the seconds."""
        return self.seconds


def _measure_wait(elements: Iterator[Any], wait_timer: WaitTimer) -> Iterator[Any]:
    """Yield the elements, and add the time that they take to the timer."""
    while True:
        start = time.perf_counter()
        element = next(elements, None)
        wait_timer.seconds += time.perf_counter() - start
        if element is None:
            return
        yield element
