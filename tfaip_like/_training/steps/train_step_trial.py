"""Trial of a user's `Model.train_step`, which finds its errors and its optimizers before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._model import Model
from tfaip_like.modeling._training_step import Trainable, TrainingBatch, TrainingStep, trainable_variables


@dataclass(frozen=True)
class TrainedWeights:
    """Weights that `Model.train_step` trains."""

    by_optimizer: Mapping[str, list[keras.Variable]]
    """Weights by name of the optimizer, "" for the only one."""

    def untrained(self, weights: list[keras.Variable]) -> list[str]:
        """Return the paths of the weights that no optimizer trains."""
        trained = {id(weight) for group in self.by_optimizer.values() for weight in group}
        return [weight.path for weight in weights if id(weight) not in trained]


class TrialStep(TrainingStep):
    """Step that updates nothing, and records which weights each optimizer trains.

    Args:
        model: model with a `train_step`.
        network: its network.
        names: names of the optimizers that exist.
        seed: seed generator of the step.
    """

    def __init__(self, model: Model, network: keras.Model, names: list[str], seed: keras.random.SeedGenerator):
        self.network = network
        self.seed = seed
        self.trained: dict[str, dict[int, keras.Variable]] = {}
        """Weights by their id, by name of the optimizer."""
        self._model = model
        self._names = names

    def minimize(self, loss: Callable[[], Any], variables: Trainable, optimizer: str = "") -> Any:
        origin = f"{type(self._model).__name__}.train_step"
        if optimizer not in self._names:
            available = ", ".join(self._names) if self._names != [""] else "none; declare them in Scenario.optimizers"
            message = f"{origin}: minimize(optimizer={optimizer!r}) names no optimizer (available: {available})"
            raise CodeError(message, self._model.train_step)
        weights = trainable_variables(variables)
        if not weights:
            raise CodeError(f"{origin}: minimize got no trainable weights", self._model.train_step)
        value = loss()
        if ops.shape(value) != ():
            message = f"{origin}: the loss of minimize has shape {tuple(value.shape)}; it must be a scalar (ops.mean)"
            raise CodeError(message, self._model.train_step)
        self.trained.setdefault(optimizer, {}).update({id(weight): weight for weight in weights})
        return value

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        function(x)
        return ops.zeros_like(x)


def try_train_step(
    model: Model,
    network: keras.Model,
    batch: TrainingBatch,
    names: list[str],
    expected: list[str],
    seed: keras.random.SeedGenerator,
) -> TrainedWeights:
    """Call `train_step` without updates; return the weights that it trains.

    Args:
        model: model with a `train_step`.
        network: its network.
        batch: first batch.
        names: names of the optimizers that exist.
        expected: names of the losses and metrics.
        seed: seed generator of the step.

    Raises:
        CodeError: if the values, optimizers or losses do not fit.
    """
    step = TrialStep(model, network, names, seed)
    values = model.train_step(batch, step)
    origin = f"{type(model).__name__}.train_step"
    returned = sorted(values) if isinstance(values, Mapping) else type(values).__name__
    if returned != sorted(expected):
        message = f"{origin} returned {returned}; it must return a value for each loss and metric: {sorted(expected)}"
        raise CodeError(message, model.train_step)
    if unused := [name for name in names if name not in step.trained]:
        raise UsageError(f"--optimizers.{unused[0]}: {origin} does not use this optimizer")
    return TrainedWeights({name: list(step.trained[name].values()) for name in names})
