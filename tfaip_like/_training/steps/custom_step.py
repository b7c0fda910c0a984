"""Step of a user's `Model.train_step`: the part that all backends have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tfaip_like._keras_ext.optimizer_group import OptimizerGroup
from tfaip_like._training.steps.training_model import TrainingModel, batch_size
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
        self._model = model
        self._optimizers: OptimizerGroup = model.optimizer
        self._part: tuple[Any, bool] | None = None
        """Share of the batch in the samples of the step, and whether it is the last one; None for a single batch."""
        self._sums: list[list[Any]] = []
        """Gradients of the batches so far, of each call of `minimize` in the order of the calls."""
        self._num_calls = 0

    def run(self, batches: Sequence[Mapping[str, Any]]) -> Any:
        """Run `Model.train_step` for each batch; the last one updates the weights with the mean gradients.

        Returns:
            The mean of the losses over the samples.
        """
        if len(batches) == 1:
            return self._model.run_train_step(batches[0], self)
        sizes = [ops.cast(batch_size(batch), "float32") for batch in batches]
        total = sum(sizes[1:], start=sizes[0])
        loss = ops.zeros(())
        for number, (batch, size) in enumerate(zip(batches, sizes, strict=True), start=1):
            self._part, self._num_calls = (size / total, number == len(batches)), 0
            loss = loss + self._model.run_train_step(batch, self) * (size / total)
        return loss

    @abc.abstractmethod
    def differentiate(self, function: Callable[[], Any], variables: list[keras.Variable]) -> tuple[Any, list[Any]]:
        """Return the value of a function, and its gradient with respect to each variable, None if independent."""

    def minimize(self, loss: Callable[[], Any], variables: Trainable, optimizer: str = "") -> Any:
        weights = trainable_variables(variables)
        value, gradients = self.differentiate(lambda: ops.cast(loss(), "float32"), weights)
        pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
        if not pairs:
            raise UsageError(f"train_step: the loss of optimizer {optimizer!r} depends on none of its weights")
        self.is_good = ops.logical_and(self.is_good, ops.isfinite(value))
        if self._part is not None:
            sums = self._add_gradients([gradient for gradient, _ in pairs])
            if not self._part[1]:
                return value
            pairs = [(total, weight) for total, (_, weight) in zip(sums, pairs, strict=True)]
        square = sum((sum_of_squares(g) for g, _ in pairs), start=ops.zeros(()))
        self.squared_norm = self.squared_norm + square
        self.is_good = ops.logical_and(self.is_good, ops.isfinite(square))
        good = [ops.where(self.is_good, g, ops.zeros_like(g)) for g, _ in pairs]
        self.apply(self._optimizers.members[optimizer], good, [w for _, w in pairs])
        return value

    def _add_gradients(self, gradients: list[Any]) -> list[Any]:
        """Add the gradients of a call of `minimize` to those of the batches before; return the sums."""
        assert self._part is not None
        number, self._num_calls = self._num_calls, self._num_calls + 1
        weighted = [gradient * ops.cast(self._part[0], gradient.dtype) for gradient in gradients]
        if number == len(self._sums):
            self._sums.append(weighted)
        else:
            self._sums[number] = [a + b for a, b in zip(self._sums[number], weighted, strict=True)]
        return self._sums[number]

    def apply(self, optimizer: keras.optimizers.Optimizer, gradients: list[Any], weights: list[keras.Variable]) -> None:
        """Update weights."""
        optimizer.apply(gradients, weights)
