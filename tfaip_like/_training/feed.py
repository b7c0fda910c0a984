"""Training batches as `keras.Model.fit` takes them, for each backend; Keras opens them again in each call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfaip_like._keras_ext.ranges import check_width
from tfaip_like._training.steps.training_model import STEPS, as_fed
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches, ClosedError
from tfaip_like.data._sample import Spec

LEAST_STEPS_OF_A_STACK = 2
"""XLA unrolls the loop over a stack of one step and adds up its loss in another order (measured: the last bit differs).
The number of steps in an execution depends on the load of the machine; the numbers of a run must not."""


class TrainingFeed:
    """The training batches, from any step on to the end of its epoch.

    Args:
        epochs: how many will be trained, so that data processes work ahead no further.
        at_once: most steps of an execution.
        stop_every: see `Batches.executions`.
        interrupt: learns that batches are awaited.
    """

    def __init__(
        self,
        batches: Batches,
        epochs: int,
        at_once: int,
        stop_every: int,
        bad_samples: BadSamples,
        interrupt: InterruptFlag,
    ):
        self._interrupt = interrupt
        self._of: Batches | None = batches
        self._is_stacked = batches.is_stacked
        self._accumulate = batches.accumulate
        self._steps_per_epoch = batches.steps_per_epoch
        self._end = epochs * batches.steps_per_epoch
        self._at_once = at_once
        self._stop_every = stop_every
        self.bad_samples = bad_samples
        self._first = 0
        self._stream: Iterator[Batch] = iter(())
        self._position = -1
        self._counts: Iterator[int] = iter(())
        self._errors: list[BaseException] = []
        self._waited: Any = None
        self._seen = 0.0
        # When `fit` is called again (without XLA), the thread of the call before may still be making a batch.
        self._one_at_a_time = threading.Lock()
        self._stack = 0
        """Most batches in an element, for steps that take many at once; 0 for one by one."""
        self._data: Any = None
        if keras.backend.backend() == "tensorflow":
            if batches.is_stacked:
                self._stack = max(at_once, LEAST_STEPS_OF_A_STACK) * batches.accumulate
            self._data = self._dataset(batches)

    def open(self, first: int) -> tuple[Any, Sequence[range]]:
        """Return what `fit` takes for the steps of the run from `first` to the end of its epoch, and its executions."""
        self._first = first
        assert self._of is not None
        executions = list(self._of.executions(first, self._epoch_end, self._at_once, self._stop_every))
        self._counts = map(len, executions)
        return self._numbered(self._epoch_end - first), executions

    def next_count(self) -> int:
        """Return the number of steps of the next execution."""
        return next(self._counts)

    @property
    def _epoch_end(self) -> int:
        return (self._first // self._steps_per_epoch + 1) * self._steps_per_epoch

    def _until_the_end_of_the_epoch(self) -> Iterator[Batch]:
        if self._of is None:
            return
        # One stream for all epochs, so that data processes work ahead over their borders.
        if self._position != self._first:
            self._stream = self._of.training(self._first, self._end, self._at_once, self._stop_every)
            self._position = self._first
        single = 0
        while self._position < self._epoch_end:
            self._interrupt.reach("data")
            batch = next(self._stream)
            if self._is_stacked:
                self._position += len(batch) // self._accumulate
            else:
                single += 1
                self._position += single % self._accumulate == 0
            yield batch

    def _numbered(self, steps: int) -> Any:
        """Return what Keras takes for a known number of single batches."""
        if self._data is not None:
            return self._data
        if self._waited is None:
            self._waited = Waited()
        return _Numbered(self._elements, steps, self._waited)

    def release(self) -> None:
        """Let go of the samples: tf.data keeps the generators it was given for as long as the process lives."""
        self._of = None
        self._stream = iter(())
        self._errors.clear()  # their tracebacks hold on to everything

    def seconds_waited(self) -> float:
        """How long the network has waited for batches since this was last asked."""
        if self._waited is None:
            return 0.0
        now = float(self._waited.numpy())
        since, self._seen = now - self._seen, now
        return since

    @property
    def has_failed(self) -> bool:
        """Return whether making a batch raised an exception or was interrupted."""
        return bool(self._errors)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises what went wrong while batches were made as it was, not as TensorFlow retells it."""
        try:
            yield
        except Exception:
            if self._errors:
                raise self._errors[0] from self._errors[0].__cause__
            raise

    def _batches(self) -> Iterator[Batch]:
        stream = self._until_the_end_of_the_epoch()
        try:
            while True:
                with self._one_at_a_time:
                    batch = next(stream, None)
                if batch is None:
                    return
                self.bad_samples.note(batch.bad)
                if len(batch):
                    check_width("input", batch.inputs)
                    check_width("target", batch.targets)
                    yield batch
        except ClosedError:
            return
        except (Exception, Interrupted) as error:
            self._errors.append(error)
            raise

    def _elements(self) -> Iterator[dict[str, Any]]:
        for batch in self._batches():
            if self._stack:
                steps = np.int32(len(next(iter(batch.inputs.values()))) // self._accumulate)
                yield {**as_fed(batch.filled_up(self._stack)), STEPS: steps}
            else:
                yield from map(as_fed, batch.parts() if self._is_stacked else [batch])

    def _dataset(self, batches: Batches) -> Any:
        import tensorflow as tf

        samples = batches.samples
        leading = (self._stack, batches.batch_size) if self._stack else (None,)

        def signature(specs: Mapping[str, Spec]) -> dict[str, tf.TensorSpec]:
            return {name: tf.TensorSpec((*leading, *spec.shape), spec.dtype) for name, spec in specs.items()}

        element: dict[str, Any] = {"inputs": signature(samples.inputs), "targets": signature(samples.targets)}
        if samples.has_weights:
            element["weights"] = tf.TensorSpec(leading, "float32")
        if self._stack:
            element[STEPS] = tf.TensorSpec((), "int32")
        dataset = tf.data.Dataset.from_generator(self._elements, output_signature=element)
        # A stack is many batches already; several single ones hide the time of handing them over.
        dataset = dataset.prefetch(1 if self._stack else 2)
        dataset, self._waited = _timed(dataset)
        options = tf.data.Options()
        options.autotune.enabled = False  # or TensorFlow adds a buffer at the end, behind the clock
        return dataset.with_options(options)


def _timed(dataset: Any) -> tuple[Any, Any]:
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


class Waited:
    """Seconds, read like a variable of TensorFlow."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def numpy(self) -> float:
        """The number."""
        return self.seconds


class _Numbered(keras.utils.PyDataset):
    """A known number of batches, for the backends without tf.data; read in their order."""

    def __init__(self, make: Callable[[], Iterator[dict[str, Any]]], steps: int, waited: Waited):
        super().__init__()
        self._make = make
        self._steps = steps
        self._waited = waited
        self._iterator: Iterator[dict[str, Any]] = iter(())

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, Mapping[str, np.ndarray[Any, Any]]]]:
        begin = time.perf_counter()
        if step == 0:
            self._iterator = self._make()
        batch = next(self._iterator)
        self._waited.seconds += time.perf_counter() - begin
        return (batch,)
