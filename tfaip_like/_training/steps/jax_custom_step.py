"""Training step of a user's `Model.train_step` on JAX, within the compiled loop over several steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import keras
from jax import numpy as jnp

from tfaip_like._training.steps.custom_step import RunningStep
from tfaip_like._training.steps.jax_step import BatchGetter, JaxTrainStep, State
from tfaip_like._training.steps.training_model import TrainingModel


class JaxCustomStep(JaxTrainStep):
    """Training step of `Model.train_step` on JAX; see `JaxTrainStep`."""

    def _step(self, state: State, get_batch: BatchGetter) -> State:
        groups = self._variables
        with self._scope(*state) as scope:
            step = _RunningStep(self._model, [v for group in groups for v in group])
            loss = step.run([get_batch(part) for part in range(self._accumulate)])
            self._optimizer.complete_step()
            is_good = self._check_update.record(jnp.where(step.is_good, loss, jnp.nan), jnp.sqrt(step.squared_norm))
        trainable, mutable, optimizer = ([scope.get_current_value(v) for v in group] for group in groups)
        if not self._check_update.skips:
            return trainable, mutable, optimizer

        def restore(values: list[Any], before: list[Any], restored: Sequence[bool]) -> list[Any]:
            triples = zip(values, before, restored, strict=True)
            return [jnp.where(is_good, value, old) if undo else value for value, old, undo in triples]

        return (
            restore(trainable, state[0], [True] * len(trainable)),
            restore(mutable, state[1], self._restored),
            restore(optimizer, state[2], [True] * len(optimizer)),
        )

    def _trace_nonzero_gradients(self, example: Mapping[str, Any]) -> list[Any]:
        return [True] * len(self._trainable)  # the trial of the step has warned about untrained weights


class _RunningStep(RunningStep):
    def __init__(self, model: TrainingModel, variables: list[keras.Variable]):
        super().__init__(model)
        self._variables = variables

    def differentiate(self, function: Callable[[], Any], variables: list[keras.Variable]) -> tuple[Any, list[Any]]:
        values = [variable.value for variable in variables]
        value, gradients = self._value_and_grad(lambda values: function(), values, variables)
        return value, gradients

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        return self._value_and_grad(lambda x: jnp.sum(function(x)), x, [])[1]

    def _value_and_grad(
        self, function: Callable[[Any], Any], argument: Any, variables: list[keras.Variable]
    ) -> tuple[Any, Any]:
        """Return value and gradient of a function; what it assigns to variables is assigned in the enclosing scope.

        Args:
            function: function of the argument that returns a scalar.
            argument: a tensor, or the values of the variables.
            variables: variables that have the values of the argument within the function.
        """
        outer = [variable.value for variable in self._variables]

        def compute(argument: Any) -> tuple[Any, list[Any]]:
            values = dict(zip(map(id, self._variables), outer, strict=True))
            values |= dict(zip(map(id, variables), argument, strict=True)) if variables else {}
            with keras.StatelessScope([(v, values[id(v)]) for v in self._variables]) as scope:
                value = function(argument)
            return value, [scope.get_current_value(v) for v in self._variables]

        differentiated = {id(variable) for variable in variables}
        (value, inner), gradient = jax.value_and_grad(compute, has_aux=True)(argument)
        for variable, before, after in zip(self._variables, outer, inner, strict=True):
            if after is not before and id(variable) not in differentiated:
                variable.assign(after)
        return value, gradient
