"""Training batches as `keras.Model.fit` takes them, for each backend; Keras opens them again in each call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfaip_like._keras_ext.range_checks import check_int32_overflow
from tfaip_like._training.steps.training_model import NUM_STEPS_KEY, to_model_inputs
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader, LoaderClosedError
from tfaip_like.data._sample import Spec

MIN_STEPS_PER_STACK = 2
"""XLA unrolls the loop over a stack of one step and adds up its loss in another order (measured: the last bit differs).
The number of steps in an execution depends on the load of the machine; the numbers of a run must not."""


class TrainingFeed:
    """The training batches, from any step on to the end of its epoch.

    Args:
        epochs: how many will be trained, so that data processes work ahead no further.
        steps_per_execution: most steps of an execution.
        stop_every: see `Batches.executions`.
        interrupt: learns that batches are awaited.
    """

    def __init__(
        self,
        loader: DataLoader,
        epochs: int,
        steps_per_execution: int,
        stop_every: int,
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
        self._stop_every = stop_every
        self.bad_samples = bad_samples
        self._first_step = 0
        self._stream: Iterator[Batch] = iter(())
        self._position = -1
        self._execution_sizes: Iterator[int] = iter(())
        self._errors: list[BaseException] = []
        self._wait_timer: Any = None
        self._last_wait_reading = 0.0
        # When `fit` is called again (without XLA), the thread of the call before may still be making a batch.
        self._lock = threading.Lock()
        self._stack_size = 0
        """Most batches in an element, for steps that take many at once; 0 for one by one."""
        self._tf_dataset: Any = None
        if keras.backend.backend() == "tensorflow":
            if loader.yields_stacked_steps:
                self._stack_size = max(steps_per_execution, MIN_STEPS_PER_STACK) * loader.accumulate
            self._tf_dataset = self._make_tf_dataset(loader)

    def open(self, first: int) -> tuple[Any, Sequence[range]]:
        """Return what `fit` takes for the steps of the run from `first` to the end of its epoch, and its executions."""
        self._first_step = first
        assert self._loader is not None
        executions = list(self._loader.group_steps(first, self._epoch_end, self._steps_per_execution, self._stop_every))
        self._execution_sizes = map(len, executions)
        return self._with_length(self._epoch_end - first), executions

    def next_execution_size(self) -> int:
        """Return the number of steps of the next execution."""
        return next(self._execution_sizes)

    @property
    def _epoch_end(self) -> int:
        return (self._first_step // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _iter_rest_of_epoch(self) -> Iterator[Batch]:
        if self._loader is None:
            return
        # One stream for all epochs, so that data processes work ahead over their borders.
        if self._position != self._first_step:
            self._stream = self._loader.iter_training(
                self._first_step, self._end_step, self._steps_per_execution, self._stop_every
            )
            self._position = self._first_step
        single = 0
        while self._position < self._epoch_end:
            self._interrupt.report_phase("data")
            batch = next(self._stream)
            if self._is_stacked:
                self._position += len(batch) // self._accumulate
            else:
                single += 1
                self._position += single % self._accumulate == 0
            yield batch

    def _with_length(self, steps: int) -> Any:
        """Return what Keras takes for a known number of single batches."""
        if self._tf_dataset is not None:
            return self._tf_dataset
        if self._wait_timer is None:
            self._wait_timer = WaitTimer()
        return _BatchSequence(self._iter_elements, steps, self._wait_timer)

    def release(self) -> None:
        """Let go of the samples: tf.data keeps the generators it was given for as long as the process lives."""
        self._loader = None
        self._stream = iter(())
        self._errors.clear()  # their tracebacks hold on to everything

    def pop_wait_seconds(self) -> float:
        """How long the network has waited for batches since this was last asked."""
        if self._wait_timer is None:
            return 0.0
        now = float(self._wait_timer.numpy())
        since, self._last_wait_reading = now - self._last_wait_reading, now
        return since

    @property
    def has_failed(self) -> bool:
        """Return whether making a batch raised an exception or was interrupted."""
        return bool(self._errors)

    @contextmanager
    def reraise_pipeline_errors(self) -> Iterator[None]:
        """Raises what went wrong while batches were made as it was, not as TensorFlow retells it."""
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
                steps = np.int32(len(next(iter(batch.inputs.values()))) // self._accumulate)
                yield {**to_model_inputs(batch.zero_pad_to(self._stack_size)), NUM_STEPS_KEY: steps}
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
        if self._stack_size:
            element[NUM_STEPS_KEY] = tf.TensorSpec((), "int32")
        dataset = tf.data.Dataset.from_generator(self._iter_elements, output_signature=element)
        # A stack is many batches already; several single ones hide the time of handing them over.
        dataset = dataset.prefetch(1 if self._stack_size else 2)
        dataset, self._wait_timer = _measure_wait_time(dataset)
        options = tf.data.Options()
        options.autotune.enabled = False  # or TensorFlow adds a buffer at the end, behind the clock
        return dataset.with_options(options)


def _measure_wait_time(dataset: Any) -> tuple[Any, Any]:
    """The dataset, and a variable with the seconds that whoever reads it has waited for it.

    tf.data asks the three parts of a zip one after another, so the clocks on both sides of it tell how
    long it took; measured, this costs 0.1 ms per element.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def clock() -> Any:
        return tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def note(before: Any, element: Any, after: Any) -> Any:
        waited.assign_add(after - before)
        return element

    return tf.data.Dataset.zip((clock(), dataset, clock())).map(note), waited


class WaitTimer:
    """Seconds, read like a variable of TensorFlow."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def numpy(self) -> float:
        """The number."""
        return self.seconds


class _BatchSequence(keras.utils.PyDataset):
    """A known number of batches, for the backends without tf.data; read in their order."""

    def __init__(self, make: Callable[[], Iterator[dict[str, Any]]], steps: int, waited: WaitTimer):
        super().__init__()
        self._make = make
        self._steps = steps
        self._wait_timer = waited
        self._iterator: Iterator[dict[str, Any]] = iter(())

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, Mapping[str, np.ndarray[Any, Any]]]]:
        begin = time.perf_counter()
        if step == 0:
            self._iterator = self._make()
        batch = next(self._iterator)
        self._wait_timer.seconds += time.perf_counter() - begin
        return (batch,)
