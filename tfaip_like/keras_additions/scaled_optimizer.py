"""An optimizer whose learning rate can be lowered while it runs, whatever its schedule."""

from __future__ import annotations

from typing import Any

import keras


def with_rate_factor(optimizer_class: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """The class with a variable `rate_factor` (1 at first) that multiplies the learning rate.

    Keras' `ReduceLROnPlateau` sets the learning rate itself, which fails beside a schedule. The
    factor is a variable of the optimizer, not of the schedule, because only those belong to the
    state of a compiled step on every backend.
    """

    class WithRateFactor(optimizer_class):
        def build(self, variables: list[keras.Variable]) -> None:
            if self.built:
                return
            super().build(variables)
            self.rate_factor = self.add_variable(shape=(), initializer="ones", dtype="float32", name="rate_factor")

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() * self.rate_factor

    WithRateFactor.__name__ = optimizer_class.__name__
    return WithRateFactor
