"""Detection of weights without gradient on JAX, where the gradient of an unused weight is an array of zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.extend.core import Literal

from tfaip_like._training.steps.training_model import TrainingModel


def trace_nonzero_gradients(model: TrainingModel, batch: Mapping[str, Any]) -> list[Any]:
    """Return a non-None value for each trainable variable that the loss depends on, None for the others.

    The step is traced, not executed.

    Args:
        model: compiled model with a built optimizer.
        batch: model inputs, for shapes and dtypes.
    """
    weights = [variable.value for variable in model.trainable_variables]

    def loss(weights: list[Any]) -> Any:
        value, _ = model.compute_loss_and_updates(
            weights,
            [variable.value for variable in model.non_trainable_variables],
            [variable.value for variable in model.metrics_variables],
            batch,
            None,
            None,
            training=True,
            optimizer_variables=[variable.value for variable in model.optimizer.variables],
        )
        return value

    traced = jax.make_jaxpr(jax.grad(loss))(weights).jaxpr
    producers = {variable: equation for equation in traced.eqns for variable in equation.outvars}

    def is_zero(value: Any) -> bool:
        if isinstance(value, Literal):
            return bool(value.val == 0)
        equation = producers.get(value)
        copies = ("broadcast_in_dim", "convert_element_type", "reshape")
        return equation is not None and equation.primitive.name in copies and is_zero(equation.invars[0])

    return [None if is_zero(gradient) else gradient for gradient in traced.outvars]
