"""Metric of the first step with a non-finite value."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class FirstNonFiniteStep(keras.metrics.Metric):
    """First step of the epoch with a non-finite value, counted from 1; 0 if all values are finite.

    Computed inside the compiled steps, so it is exact for any number of steps per execution.

    Attributes:
        steps: number of steps of the epoch so far.
        first: first step with a non-finite value; 0 if there is none.
        count: number of steps with a non-finite value.
    """

    def __init__(self, name: str = "non_finite"):
        super().__init__(name=name, dtype="int32")
        self.steps = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="steps")
        self.first = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="first")
        self.count = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="count")

    def update_state(self, value: Any) -> None:
        """Add the value of the next step."""
        # `.value`, because JAX functions do not accept Keras variables.
        step, first = self.steps.value + 1, self.first.value
        is_bad = ops.logical_not(ops.isfinite(value))
        self.steps.assign(step)
        self.first.assign(ops.where(ops.logical_and(ops.equal(first, 0), is_bad), step, first))
        self.count.assign(self.count.value + ops.cast(is_bad, "int32"))

    def result(self) -> Any:
        """Return `first` as an integer tensor."""
        return ops.convert_to_tensor(self.first)
