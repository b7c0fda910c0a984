"""Loss and gradients of a batch, computed on several devices.

The variables stay on the first device. Each device computes the gradients of its part of the batch as a pure
function of copies of them, which XLA may compile; then the first one puts together what came out. Whatever
follows (accumulation, clipping, averages of weights, checkpoints) sees one batch and plain variables.

`tf.distribute.MirroredStrategy` was tried first: with TensorFlow 2.21 and Keras 3.15 it fails with clipping,
accumulation, conditions and XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfaip_like._training.state import global_seed_generator

REPLICA_SEED_STRIDE = 1_000_003
"""Between the random seeds of two devices: layers may have been given the seeds 1, 2, 3."""


class ReplicaResult(NamedTuple):
    """What a device makes of its part of a batch."""

    loss: Any
    gradients: list[Any]
    """Of the loss times the scale, for each weight; None where the loss does not depend on it."""
    sums: list[Any]
    """What is added to each variable of the metrics."""
    others: list[Any]
    """The new value of each variable that is not trained; None where it has not changed."""


class DataParallel:
    """Computes as one device would, except that layers see only the part of the batch that their device has.

    Sums of metrics are added up. The loss, its gradients and statistics of normalisation are means over the
    samples, so the parts may differ in size. Random numbers differ from device to device.

    Args:
        model: built and compiled, with its variables on the first device.
        devices: their names.
        forward: what happens to a batch; it gives its loss and updates metrics.
        compiled: makes a function fast.
    """

    def __init__(
        self,
        model: keras.Model,
        devices: Sequence[str],
        forward: Callable[[Any], Any],
        compiled: Callable[[Any], Any],
    ):
        self._devices = devices
        self._forward = forward
        self._weights = list(model.trainable_variables)
        self._metric_variables = list(model.metrics_variables)
        self._non_trainable_variables = [*model.non_trainable_variables, global_seed_generator().state]
        self._compiled_replica_step = compiled(self._replica_step)
        self._compiled_all_reduce = compiled(self._all_reduce)

    def compute_gradients(self, batch: Any, size: Any, scale: Any) -> tuple[Any, list[Any]]:
        """Loss of a batch of `size` samples; gradients of the loss times `scale`, None for weights that have none.

        Changes metrics, statistics and random states.
        """
        weights = [tf.identity(variable.value) for variable in self._weights]
        others = [tf.identity(variable.value) for variable in self._non_trainable_variables]
        parts, sizes = [], []
        for number, device in enumerate(self._devices):
            rows, num_rows = _replica_rows(number, len(self._devices), size)
            replica_batch = tf.nest.map_structure(lambda array, rows=rows: array[rows], batch)
            replica_others = [
                _replica_value(number, *pair) for pair in zip(self._non_trainable_variables, others, strict=True)
            ]
            with tf.device(device):
                # Copies on this device, whatever a function does with the places of its arguments.
                arguments = tf.nest.map_structure(tf.identity, (weights, replica_others, replica_batch, scale))
                parts.append(self._compiled_replica_step(*arguments))
            sizes.append(num_rows)
        with tf.device(self._devices[0]):
            return self._compiled_all_reduce(parts, tf.cast(tf.stack(sizes), "float32"))  # type: ignore[no-any-return]

    def _replica_step(self, weights: Sequence[Any], others: Sequence[Any], batch: Any, scale: Any) -> ReplicaResult:
        """Pure: reads and changes no variable, so it runs on any device."""
        sums = [tf.zeros(variable.shape, variable.dtype) for variable in self._metric_variables]
        variables = [*self._weights, *self._non_trainable_variables, *self._metric_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            values = zip(variables, (*weights, *others, *sums), strict=True)
            with keras.StatelessScope(values, collect_losses=True) as scope:
                before = [scope.get_current_value(variable) for variable in self._non_trainable_variables]
                loss = self._forward(batch)
                scaled = loss * scale
        after = [scope.get_current_value(variable) for variable in self._non_trainable_variables]
        return ReplicaResult(
            loss,
            tape.gradient(scaled, weights),
            [scope.get_current_value(variable) for variable in self._metric_variables],
            [None if new is old else new for new, old in zip(after, before, strict=True)],
        )

    def _all_reduce(self, parts: Sequence[ReplicaResult], sizes: Any) -> tuple[Any, list[Any]]:
        """The loss and the gradients of all parts; changes the variables."""
        shares = tf.unstack(sizes / tf.reduce_sum(sizes))
        counts = tf.unstack(tf.sign(sizes))
        for variable, *added in zip(self._metric_variables, *(part.sums for part in parts), strict=True):
            variable.assign(variable.value + _weighted_sum(added, counts))
        for variable, *values in zip(self._non_trainable_variables, *(part.others for part in parts), strict=True):
            if values[0] is not None and variable.value.dtype.is_floating:
                old = variable.value
                variable.assign(old + _weighted_sum([value - old for value in values], shares))
            elif values[0] is not None:  # random states and counters: each device has counted as the first one
                variable.assign(values[0])
        loss = _weighted_sum([part.loss for part in parts], shares)
        return loss, [_mean_gradient(each, shares) for each in zip(*(part.gradients for part in parts), strict=True)]


def _replica_rows(number: int, parts: int, size: Any) -> tuple[slice, Any]:
    """The rows of a part, as many as of any other or one less, and how many of them count.

    Where there are fewer rows than parts, a part without gets the last one, which does not count: the mean of
    nothing is no number.
    """
    begin, end = -(-number * size // parts), -(-(number + 1) * size // parts)
    if isinstance(size, int) and size >= parts:
        return slice(begin, end), end - begin
    return slice(tf.minimum(begin, size - 1), tf.maximum(end, tf.minimum(begin, size - 1) + 1)), end - begin


def _replica_value(number: int, variable: keras.Variable, value: Any) -> Any:
    """The value of a variable as that device sees it."""
    if variable.name == "seed_generator_state":  # (seed, how often it was asked)
        return value + tf.constant([number * REPLICA_SEED_STRIDE, 0], value.dtype)
    return value


def _weighted_sum(values: Sequence[Any], factors: Sequence[Any]) -> Any:
    return tf.add_n([value * tf.cast(factor, value.dtype) for value, factor in zip(values, factors, strict=True)])


def _mean_gradient(parts: Sequence[Any], shares: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], tf.IndexedSlices):  # of an embedding: as sparse as that of the whole batch
        values = [part.values * tf.cast(share, part.dtype) for part, share in zip(parts, shares, strict=True)]
        indices = tf.concat([part.indices for part in parts], 0)
        return tf.IndexedSlices(tf.concat(values, 0), indices, parts[0].dense_shape)
    return _weighted_sum(parts, shares)
