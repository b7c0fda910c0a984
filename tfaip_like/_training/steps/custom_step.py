"""Step of a user's `Model.train_step`: the part that all backends have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfaip_like._keras_ext.optimizer_group import OptimizerGroup
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.steps.update_check import sum_of_squares
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._training_step import Trainable, TrainingStep, trainable_variables


class RunningStep(TrainingStep):
    """One step of the training on a backend; a new object in each step.

    Args:
        model: training model, whose optimizer is an `OptimizerGroup`.
    """

    def __init__(self, model: TrainingModel):
        self.network = model.network
        self.seed = model.step_seed
        self.is_good: Any = ops.convert_to_tensor(True)
        """Whether all losses and gradients so far are finite."""
        self.squared_norm: Any = ops.zeros(())
        """Sum of the squares of all gradients so far."""
        self._optimizers: OptimizerGroup = model.optimizer

    @abc.abstractmethod
    def differentiate(self, function: Callable[[], Any], variables: list[keras.Variable]) -> tuple[Any, list[Any]]:
        """Return the value of a function, and its gradient with respect to each variable, None if independent."""

    def minimize(self, loss: Callable[[], Any], variables: Trainable, optimizer: str = "") -> Any:
        weights = trainable_variables(variables)
        value, gradients = self.differentiate(lambda: ops.cast(loss(), "float32"), weights)
        pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
        if not pairs:
            raise UsageError(f"train_step: the loss of optimizer {optimizer!r} depends on none of its weights")
        square = sum((sum_of_squares(g) for g, _ in pairs), start=ops.zeros(()))
        self.squared_norm = self.squared_norm + square
        self.is_good = ops.logical_and(self.is_good, ops.isfinite(value) & ops.isfinite(square))
        good = [ops.where(self.is_good, g, ops.zeros_like(g)) for g, _ in pairs]
        self.apply(self._optimizers.members[optimizer], good, [w for _, w in pairs])
        return value

    def apply(self, optimizer: keras.optimizers.Optimizer, gradients: list[Any], weights: list[keras.Variable]) -> None:
        """Update weights."""
        optimizer.apply(gradients, weights)
