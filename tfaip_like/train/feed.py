"""Batches as `keras.Model.fit` takes them, for each backend.

Keras opens the feed anew for each epoch. A feed has a known length, so that no backend runs a step
too many to find its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Samples, TrainBatches, ValBatches
from tfaip_like.errors import UsageError
from tfaip_like.sample import Spec
from tfaip_like.settings import TrainData, ValData
from tfaip_like.train.training_model import as_fed

STACK = 64
"""Plain batches that are cut out of their arrays at once: one call of Python for so many steps."""


@dataclass(frozen=True)
class Feed:
    """Batches for `fit` or `evaluate`."""

    data: Any
    """What Keras takes."""
    errors: list[Exception] = field(default_factory=list)
    """What was raised while batches were made."""
    makers: list[Callable[[], Iterator[Batch]]] = field(default_factory=list)
    """What makes the batches; see `release`."""

    def release(self) -> None:
        """Lets go of the samples: tf.data keeps the generators it was given for as long as the process lives."""
        self.makers.clear()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises what went wrong while batches were made as it was, not as TensorFlow retells it."""
        try:
            yield
        except Exception:
            if self.errors:
                raise self.errors[0] from None
            raise


def training_feed(batches: TrainBatches, current_epoch: Callable[[], int], prefetch: int) -> Feed:
    """The training batches of one epoch after another; `current_epoch()` is asked when one begins."""
    steps = batches.steps_per_epoch

    def one_by_one() -> Iterator[Batch]:
        first = current_epoch() * steps
        return (batches.batch(first + step) for step in range(steps))

    def stacks() -> Iterator[Batch]:
        first = current_epoch() * steps
        return (batches.stacked(first + step, min(STACK, steps - step)) for step in range(0, steps, STACK))

    if keras.backend.backend() != "tensorflow":
        _refuse_prefetch("train", prefetch, TrainData().prefetch)
        return Feed(_Numbered(lambda step: batches.batch(current_epoch() * steps + step), steps))
    stacked = batches.samples.is_plain
    make = stacks if stacked else one_by_one
    return _dataset(make, batches.samples, steps, prefetch, batches.batch_size, stacked)


def validation_feed(batches: ValBatches, prefetch: int) -> Feed:
    """The validation batches."""
    if keras.backend.backend() != "tensorflow":
        _refuse_prefetch("val", prefetch, ValData().prefetch)
        return Feed(_Numbered(batches.batch, batches.steps))
    return _dataset(lambda: iter(batches), batches.samples, batches.steps, prefetch)


def _refuse_prefetch(group: str, prefetch: int, default: int) -> None:
    if prefetch != default:
        raise UsageError(f"--{group}.prefetch {prefetch}: only the tensorflow backend makes batches ahead")


def _dataset(
    make: Callable[[], Iterator[Batch]],
    samples: Samples,
    steps: int,
    prefetch: int,
    batch_size: int | None = None,
    stacked: bool = False,
) -> Feed:
    import tensorflow as tf

    data = samples.data
    leading = (None, batch_size) if stacked else (batch_size,)

    def signature(specs: Mapping[str, Spec]) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec((*leading, *spec.shape), spec.dtype) for name, spec in specs.items()}

    errors: list[Exception] = []
    makers = [make]

    def fed() -> Iterator[dict[str, Any]]:
        try:
            yield from (as_fed(batch) for batch in makers[0]())
        except Exception as error:
            errors.append(error)
            raise

    dataset = tf.data.Dataset.from_generator(
        fed,
        output_signature={"inputs": signature(data.inputs), "targets": signature(data.targets)},
    )
    if stacked:
        dataset = dataset.unbatch()
    # Asserted, because Keras runs a step too many to find the end of a dataset of unknown length.
    return Feed(dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(prefetch), errors, makers)


class _Numbered(keras.utils.PyDataset):
    """Batches by their number, for the backends without tf.data."""

    def __init__(self, batch: Callable[[int], Batch], steps: int):
        super().__init__()
        self._batch = batch
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, Mapping[str, np.ndarray[Any, Any]]]]:
        return (as_fed(self._batch(step)),)
