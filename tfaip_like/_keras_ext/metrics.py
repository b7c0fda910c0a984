"""Metrics that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class FirstNonFiniteStep(keras.metrics.Metric):
    """The steps of the epoch whose value was NaN or infinity; the result is the first of them, from 1, or 0.

    Counted inside the compiled steps, it is exact however many of them run at once.

    Attributes:
        steps: steps of the epoch so far.
        first: the first step without a finite value; 0 if there is none.
        count: how many there are.
    """

    def __init__(self, name: str = "non_finite"):
        super().__init__(name=name, dtype="int32")
        self.steps = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="steps")
        self.first = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="first")
        self.count = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="count")

    def update_state(self, value: Any) -> None:
        """Takes the value of the next step."""
        # `.value`, because JAX takes no Keras variables in its own functions.
        step, first = self.steps.value + 1, self.first.value
        is_bad = ops.logical_not(ops.isfinite(value))
        self.steps.assign(step)
        self.first.assign(ops.where(ops.logical_and(ops.equal(first, 0), is_bad), step, first))
        self.count.assign(self.count.value + ops.cast(is_bad, "int32"))

    def result(self) -> Any:
        """The step, an integer."""
        return ops.convert_to_tensor(self.first)
