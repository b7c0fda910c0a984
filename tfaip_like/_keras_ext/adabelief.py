"""The optimizer AdaBelief (Zhuang et al. 2020, https://arxiv.org/abs/2010.07468)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfaip_like")
class AdaBelief(keras.optimizers.Optimizer):
    """Adam with the variance of the gradient around its moving average in the denominator.

    m  = beta_1 m + (1 - beta_1) g
    s  = beta_2 s + (1 - beta_2) (g - m)^2 + epsilon
    w -= lr * m^ / (sqrt(s^) + epsilon), where m^ and s^ are corrected for their initialization with 0

    With `rectify`, updates are those of RAdam (Liu et al. 2019, https://arxiv.org/abs/1908.03265): lr * m^
    while the length of the simple moving average is below `sma_threshold`, then scaled by the rectification term.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-14,
        amsgrad: bool = False,
        rectify: bool = True,
        sma_threshold: float = 5.0,
        name: str = "adabelief",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.rectify = rectify
        self.sma_threshold = sma_threshold

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the moving average and variance of the gradient of each variable."""
        if self.built:
            return
        super().build(variables)
        self._means, self._variances = self.add_optimizer_variables(variables, ["mean", "variance"])
        if self.amsgrad:
            self._max_variances = self.add_optimizer_variables(variables, "max_variance")

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update a variable from its gradient."""
        dtype = variable.dtype
        lr, gradient = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        beta_1_power = ops.power(ops.cast(self.beta_1, dtype), step)
        beta_2_power = ops.power(ops.cast(self.beta_2, dtype), step)
        index = self._get_variable_index(variable)
        mean, variance = self._means[index], self._variances[index]

        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(variance, (ops.square(gradient - mean) - variance) * (1 - self.beta_2) + self.epsilon)
        effective_variance = variance
        if self.amsgrad:
            self.assign(self._max_variances[index], ops.maximum(self._max_variances[index], variance))
            effective_variance = self._max_variances[index]

        corrected_mean = mean / (1 - beta_1_power)
        denominator = ops.sqrt(effective_variance / (1 - beta_2_power)) + self.epsilon
        adaptive = corrected_mean / denominator
        if self.rectify:
            length_limit = 2.0 / (1.0 - self.beta_2) - 1.0
            length = length_limit - 2.0 * step * beta_2_power / (1 - beta_2_power)
            rectification = ops.sqrt(
                ops.maximum((length - 4.0) * (length - 2.0) * length_limit, 0.0)
                / ((length_limit - 4.0) * (length_limit - 2.0) * length)
            )
            adaptive = ops.where(length >= self.sma_threshold, rectification * adaptive, corrected_mean)
        self.assign_sub(variable, lr * adaptive)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        hyperparameters = ("beta_1", "beta_2", "epsilon", "amsgrad", "rectify", "sma_threshold")
        return {**super().get_config(), **{name: getattr(self, name) for name in hyperparameters}}
