"""Data parallelism on TensorFlow: loss and gradients of a batch on several devices.

Variables stay on the first device. Each replica computes the gradients of its part of the batch as a pure function of
copies of them, which XLA may compile; the first device reduces the results. Everything else (accumulation, clipping,
averaged weights, checkpoints) sees one batch and plain variables.

`tf.distribute.MirroredStrategy` was tried first: with TensorFlow 2.21 and Keras 3.15 it fails with clipping,
accumulation, conditions and XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfaip_like._keras_ext.random_states import global_seed_generator

REPLICA_SEED_STRIDE = 1_000_003
"""Difference of the random seeds of two replicas; large, because layers may have the seeds 1, 2, 3."""


class ReplicaResult(NamedTuple):
    """Result of one replica."""

    loss: Any
    gradients: list[Any]
    """Gradient of the scaled loss for each weight; None if the loss does not depend on it."""
    sums: list[Any]
    """Increment of each metric variable."""
    others: list[Any]
    """New value of each non-trainable variable; None if it has not changed."""


class DataParallel:
    """Data-parallel computation of loss and gradients.

    The result is that of a single device, except that layers see only the part of the batch on their device. Metric
    sums are added. The loss, its gradients and normalization statistics are means over the samples, so the parts may
    differ in size. Random numbers differ between replicas.

    Args:
        model: built and compiled model with its variables on the first device.
        devices: TensorFlow names of the devices.
        forward: returns the loss of a batch and updates metrics.
        compile_function: compiles a function.
    """

    def __init__(
        self,
        model: keras.Model,
        devices: Sequence[str],
        forward: Callable[[Any], Any],
        compile_function: Callable[[Any], Any],
    ):
        self._devices = devices
        self._forward = forward
        self._weights = list(model.trainable_variables)
        self._metric_variables = list(model.metrics_variables)
        self._non_trainable_variables = [*model.non_trainable_variables, global_seed_generator().state]
        self._compiled_replica_step = compile_function(self._replica_step)
        self._compiled_all_reduce = compile_function(self._all_reduce)

    def compute_gradients(self, batch: Any, size: Any, scale: Any) -> tuple[Any, list[Any]]:
        """Compute loss and gradients of a batch; updates metrics, normalization statistics and random states.

        Args:
            batch: inputs, targets and weights, each of shape (size, ...).
            size: number of samples.
            scale: factor of the loss, for float16.

        Returns:
            The loss, and the gradient of the scaled loss for each weight; None if the loss does not depend on it.
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
                # Copied explicitly, so that the arguments are on this device in any case.
                arguments = tf.nest.map_structure(tf.identity, (weights, replica_others, replica_batch, scale))
                parts.append(self._compiled_replica_step(*arguments))
            sizes.append(num_rows)
        with tf.device(self._devices[0]):
            return self._compiled_all_reduce(parts, tf.cast(tf.stack(sizes), "float32"))  # type: ignore[no-any-return]

    def _replica_step(self, weights: Sequence[Any], others: Sequence[Any], batch: Any, scale: Any) -> ReplicaResult:
        """Compute a replica's part; pure (neither reads nor changes variables), so it runs on any device."""
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
        """Return the loss and the gradients over all parts, and update the variables."""
        shares = tf.unstack(sizes / tf.reduce_sum(sizes))
        counts = tf.unstack(tf.sign(sizes))
        for variable, *added in zip(self._metric_variables, *(part.sums for part in parts), strict=True):
            variable.assign(variable.value + _weighted_sum(added, counts))
        for variable, *values in zip(self._non_trainable_variables, *(part.others for part in parts), strict=True):
            if values[0] is not None and variable.value.dtype.is_floating:
                old = variable.value
                variable.assign(old + _weighted_sum([value - old for value in values], shares))
            elif values[0] is not None:  # random states and counters advance equally on all replicas
                variable.assign(values[0])
        loss = _weighted_sum([part.loss for part in parts], shares)
        gradients = zip(*(part.gradients for part in parts), strict=True)
        return loss, [_mean_gradient(values, shares) for values in gradients]


def _replica_rows(number: int, parts: int, size: Any) -> tuple[slice, Any]:
    """Return the rows of a replica, and how many of them count; the parts differ by at most one row.

    With fewer rows than replicas, a replica without a row gets the last one, which does not count: the mean over zero
    samples would be NaN.
    """
    start, stop = -(-number * size // parts), -(-(number + 1) * size // parts)
    if isinstance(size, int) and size >= parts:
        return slice(start, stop), stop - start
    return slice(tf.minimum(start, size - 1), tf.maximum(stop, tf.minimum(start, size - 1) + 1)), stop - start


def _replica_value(number: int, variable: keras.Variable, value: Any) -> Any:
    """Return the value of a non-trainable variable on a replica; random seeds differ."""
    if variable.name == "seed_generator_state":  # (seed, counter)
        return value + tf.constant([number * REPLICA_SEED_STRIDE, 0], value.dtype)
    return value


def _weighted_sum(values: Sequence[Any], factors: Sequence[Any]) -> Any:
    return tf.add_n([value * tf.cast(factor, value.dtype) for value, factor in zip(values, factors, strict=True)])


def _mean_gradient(parts: Sequence[Any], shares: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], tf.IndexedSlices):  # an embedding: the mean is as sparse as on a single device
        values = [part.values * tf.cast(share, part.dtype) for part, share in zip(parts, shares, strict=True)]
        indices = tf.concat([part.indices for part in parts], 0)
        return tf.IndexedSlices(tf.concat(values, 0), indices, parts[0].dense_shape)
    return _weighted_sum(parts, shares)
