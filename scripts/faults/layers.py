"""Stateful layers of the trained networks, some of which also change in inference."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
from keras import ops

from scripts.faults.fault_points import POINT_VARIABLE, is_best_being_written, reach


@keras.saving.register_keras_serializable("faults")
class Probe(keras.layers.Layer):
    """Reaches points while the network trains, is traced for an export, and is written; computes nothing."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        if self._is_in_export():
            reach("export trace")
        return _reach_in_step(x) if training else x

    def get_config(self) -> dict[str, Any]:
        if self._is_in_export():
            reach("export config")
        return dict(super().get_config())

    @staticmethod
    def _is_in_export() -> bool:
        return bool(os.environ.get(POINT_VARIABLE)) and is_best_being_written()


def _reach_in_step(x: Any) -> Any:
    """Return the same tensor; reach the point "step" in each step that computes it."""
    if os.environ.get(POINT_VARIABLE) != "step":
        return x
    backend = keras.backend.backend()
    if backend == "torch":
        reach("step")
        return x
    if backend == "jax":
        import jax

        jax.debug.callback(lambda: reach("step"))
        return x
    import tensorflow as tf

    def reached() -> Any:
        reach("step")
        return np.int32(0)

    with tf.control_dependencies([tf.numpy_function(reached, [], tf.int32)]):
        return tf.identity(x)


@keras.saving.register_keras_serializable("faults")
class BatchCounter(keras.layers.Layer):
    """Layer that outputs the number of training batches so far."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            self.count.assign(self.count + 1)
        return ops.zeros_like(x) + self.count


@keras.saving.register_keras_serializable("faults")
class Sampling(keras.layers.Layer):
    """Layer that uses `keras.random` without a seed, in training and inference."""

    def call(self, mean: Any, log_variance: Any) -> Any:
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean))


@keras.saving.register_keras_serializable("faults")
class StatefulNoise(keras.layers.Layer):
    """Its output depends on a counter, a flag and a generator that change in training and in inference."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")
        self.is_odd = self.add_weight(shape=(), dtype="bool", initializer="zeros", trainable=False, name="is_odd")
        self.level = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False, name="level")
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        self.calls.assign(self.calls + 1)
        self.is_odd.assign(ops.logical_not(self.is_odd))
        self.level.assign(0.9 * self.level + 0.1 * ops.mean(x, axis=0))
        noise = 0.1 * keras.random.normal(ops.shape(x), seed=self.seed)
        wave = ops.cos(ops.cast(self.calls, x.dtype)) * ops.where(self.is_odd, 0.1, 0.2)
        return x + noise + wave + self.level
