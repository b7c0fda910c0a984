"""Metrics that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class FirstNonFinite(keras.metrics.Metric):
    """The step of the epoch, counted from 1, whose value was the first NaN or infinity; 0 if none was.

    Counted inside the compiled steps, it is exact however many of them run at once.
    """

    def __init__(self, name: str = "first_non_finite"):
        super().__init__(name=name, dtype="int32")
        self.steps = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="steps")
        self.first = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="first")

    def update_state(self, value: Any) -> None:
        """Takes the value of the next step."""
        # `.value`, because JAX takes no Keras variables in its own functions.
        step, first = self.steps.value + 1, self.first.value
        is_first = ops.logical_and(ops.equal(first, 0), ops.logical_not(ops.isfinite(value)))
        self.steps.assign(step)
        self.first.assign(ops.where(is_first, step, first))

    def result(self) -> Any:
        """The step, an integer."""
        return ops.convert_to_tensor(self.first)
