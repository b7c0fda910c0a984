"""Training step of a user's `Model.train_step` on TensorFlow, within the compiled loop over several steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfaip_like._training.steps.custom_step import RunningStep
from tfaip_like._training.steps.tensorflow_step import BatchGetter, TensorFlowTrainStep


class TensorFlowCustomStep(TensorFlowTrainStep):
    """Training step of `Model.train_step` on TensorFlow; see `TensorFlowTrainStep`."""

    def _step(self, get_batch: BatchGetter) -> None:
        model, optimizers = self._model, self._optimizer
        restored: list[keras.Variable] = []
        if self._check_update.skips:
            trained = [*model.trainable_variables, *optimizers.variables]
            restored = [*self._check_update.restored_variables, *trained]
        before = [tf.identity(variable.value) for variable in restored]
        step = _RunningStep(model)
        loss = step.run([get_batch(part) for part in range(self._accumulate)])
        optimizers.complete_step()
        loss = tf.where(step.is_good, loss, float("nan"))
        is_good = self._check_update.record(loss, tf.sqrt(step.squared_norm))
        for variable, value in zip(restored, before, strict=True):
            variable.assign(tf.where(is_good, variable.value, value))


class _RunningStep(RunningStep):
    def differentiate(self, function: Callable[[], Any], variables: list[keras.Variable]) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            value = function()
        gradients = tape.gradient(value, variables)
        return value, [gradient if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
