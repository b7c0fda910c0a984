"""The optimizer ScheduleFreeAdamW, with fixes of the Keras implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfaip_like")
class ScheduleFreeAdamW(keras.optimizers.ScheduleFreeAdamW):
    """Keras' ScheduleFreeAdamW with the update of the paper (https://arxiv.org/abs/2405.15682).

    Of the three sequences z (steps), x (average of z) and y = (1 - beta_1) z + beta_1 x, y is the variable and z its
    `momentum`. Differences from Keras 3.15:

    - x is computed from y and z before z is updated. In Keras, except on JAX, `momentum_old` is the variable instead
      of its value. With gradients of 1 and steps of 0.5 from 1, y is 0.225 after the second step; in Keras 0.25.
    - Weight decay is part of the step of z, z -= lr * weight_decay * y. In Keras it shrinks y only, an effect that the
      next update largely removes.
    - x, at which the paper evaluates, is available (`averages`).
    """

    def averages(self) -> list[tuple[keras.Variable, Any]]:
        """Return the weights, each with its value in the sequence x."""
        pairs = zip(self._trainable_variables, self._momentums, strict=True)
        return [(variable, self._average(variable, z)) for variable, z in pairs]

    def reset_averages(self) -> None:
        """Reset z to the current weights."""
        for z, variable in zip(self._momentums, self._trainable_variables, strict=True):
            z.assign(ops.copy(variable))

    def _average(self, variable: keras.Variable, z: keras.Variable) -> Any:
        return (variable - (1 - self.beta_1) * z) / self.beta_1

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Do nothing: weight decay is part of `update_step`."""

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update a variable from its gradient and its weight decay."""
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        z, velocity = self._momentums[index], self._velocities[index]
        gradient, lr = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        if self.warmup_steps > 0:
            lr = lr * ops.minimum(step / self.warmup_steps, 1.0)

        average = self._average(variable, z)
        self.assign_add(velocity, ops.multiply(ops.subtract(ops.square(gradient), velocity), 1 - self.beta_2))
        bias_correction = 1 - ops.power(ops.cast(self.beta_2, dtype), step)
        direction = ops.divide(gradient, ops.sqrt(velocity / bias_correction) + self.epsilon)
        if self.weight_decay and self._use_weight_decay(variable):
            direction = ops.add(direction, self.weight_decay * variable)
        self.assign_sub(z, ops.multiply(direction, lr))
        average = average + (z - average) / step
        self.assign(variable, (1 - self.beta_1) * z + self.beta_1 * average)
