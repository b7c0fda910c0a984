"""ScheduleFreeAdamW with a weight decay that reaches the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfaip_like")
class ScheduleFreeAdamW(keras.optimizers.ScheduleFreeAdamW):
    """Keras' ScheduleFreeAdamW, decaying as the paper does (https://arxiv.org/abs/2405.15682).

    Of the three sequences z (steps), x (average) and y = (1 - beta_1) z + beta_1 x (the variable),
    Keras shrinks y alone, which the next update forgets in great part because z stays. The paper
    takes the decay into the step of z: z -= lr * weight_decay * y.
    """

    def begin_at_weights(self) -> None:
        """Lets z begin at the weights as they are."""
        for z, variable in zip(self._momentums, self._trainable_variables, strict=True):
            z.assign(ops.copy(variable))

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Nothing: it is part of `update_step`."""

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Changes one variable by its gradient and its decay."""
        before = ops.copy(variable)
        super().update_step(gradient, variable, learning_rate)
        if not self.weight_decay or not self._use_weight_decay(variable):
            return
        step = ops.cast(self.iterations + 1, variable.dtype)
        lr = ops.cast(learning_rate, variable.dtype)
        if self.warmup_steps > 0:
            lr = lr * ops.minimum(step / self.warmup_steps, 1.0)
        # All three are linear in the step of z, so it can be added afterwards.
        decay = lr * self.weight_decay * before
        self.assign_sub(self._momentums[self._get_variable_index(variable)], decay)
        self.assign_sub(variable, ((1 - self.beta_1) + self.beta_1 / step) * decay)
