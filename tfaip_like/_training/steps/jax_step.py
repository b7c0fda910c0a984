"""Training step on JAX: a pure function of the values of all variables, compiled by XLA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import keras
from jax.extend.core import Literal

from tfaip_like._training.steps.training_model import TrainingModel

Values = list[Any]
State = tuple[Values, Values, Values]
"""Values of the trainable variables, of those that the forward pass changes, and of the optimizer."""


class JaxTrainStep:
    """Training step on JAX; see `TrainStep`. It runs one step at a time and holds the values between them.

    Args:
        model: compiled training model with a built optimizer.
        example: model inputs, for shapes and dtypes.

    Raises:
        UsageError: if no loss depends on any weight.
    """

    def __init__(self, model: TrainingModel, example: Mapping[str, Any]):
        self._model = model
        self._optimizer = model.optimizer
        self._trainable = list(model.trainable_variables)
        self._mutable = [*model.non_trainable_variables, *model.metrics_variables]
        self._state: State | None = None
        is_compiled = model.jit_compile and not model.run_eagerly
        self._step = jax.jit(self._compute_step, donate_argnums=0) if is_compiled else self._compute_step
        model.warn_untrained_weights(self._trace_nonzero_gradients(example))

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; see `TrainStep.run`."""
        results: Mapping[str, Any] = {}
        for _ in range(num_steps):
            batch = next(data)
            self._state, results = self._step(self._state or self._read_state(), batch)
        return results

    def sync_to_model(self) -> None:
        """Write the current values to the variables of the model."""
        if self._state is None:
            return
        for variables, values in zip(self._variables, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._state = None  # read again: validation, or a resumed run, may assign others

    @property
    def _variables(self) -> tuple[Sequence[keras.Variable], Sequence[keras.Variable], Sequence[keras.Variable]]:
        return self._trainable, self._mutable, self._optimizer.variables

    def _read_state(self) -> State:
        trainable, mutable, optimizer = ([variable.value for variable in group] for group in self._variables)
        return trainable, mutable, optimizer

    def _compute_step(self, state: State, batch: Mapping[str, Any]) -> tuple[State, Mapping[str, Any]]:
        trainable, mutable, optimizer = state
        gradients, mutable = jax.grad(self._scaled_loss, has_aux=True)(trainable, mutable, optimizer, batch)
        trainable, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        with keras.StatelessScope(list(zip(self._mutable, mutable, strict=True))):
            results = self._model.metric_results()
        return (trainable, mutable, optimizer), results

    def _scaled_loss(
        self, trainable: Values, mutable: Values, optimizer: Values, batch: Mapping[str, Any]
    ) -> tuple[Any, Values]:
        """Return the loss of a batch, scaled for float16, and the new values of the mutable variables."""
        pairs = [
            (variable, value)
            for group in zip(self._variables, (trainable, mutable, optimizer), strict=True)
            for variable, value in zip(*group, strict=True)
        ]
        with keras.StatelessScope(pairs, collect_losses=True) as scope:
            _, loss = self._model.evaluate_batch(batch, training=True)
            self._model.complete_step(loss)
            scaled = self._optimizer.scale_loss(loss)
        return scaled, [scope.get_current_value(variable) for variable in self._mutable]

    def _trace_nonzero_gradients(self, example: Mapping[str, Any]) -> list[Any]:
        """Return a non-None value for each trainable variable that the loss depends on, None for the others.

        On JAX, the gradient of an unused weight is an array of zeros. The step is traced, not executed.
        """
        trainable, mutable, optimizer = self._read_state()

        def loss(trainable: Values) -> Any:
            return self._scaled_loss(trainable, mutable, optimizer, example)[0]

        traced = jax.make_jaxpr(jax.grad(loss))(trainable).jaxpr
        producers = {variable: equation for equation in traced.eqns for variable in equation.outvars}

        def is_zero(value: Any) -> bool:
            if isinstance(value, Literal):
                return bool(value.val == 0)
            equation = producers.get(value)
            copies = ("broadcast_in_dim", "convert_element_type", "reshape")
            return equation is not None and equation.primitive.name in copies and is_zero(equation.invars[0])

        return [None if is_zero(gradient) else gradient for gradient in traced.outvars]
