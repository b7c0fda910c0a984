"""One batch of a validation: the averages of losses and metrics take it, and its outputs are returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from tfaip_like._training.state import global_seed_generator
from tfaip_like._training.steps.training_model import TrainingModel, batch_size
from tfaip_like.data._sample import Spec
from tfaip_like.modeling._model import Tensors

ValidationStep: TypeAlias = Callable[[Mapping[str, Any]], Tensors]
"""Takes a batch as it is fed, and returns what the training network answers in inference."""


def make_validation_step(
    model: TrainingModel, inputs: Mapping[str, Spec], targets: Mapping[str, Spec]
) -> ValidationStep:
    """Return the step of a backend, compiled as the training steps are.

    Args:
        inputs: of the samples, by name, as are the targets.
    """

    def step(fed: Mapping[str, Any]) -> Tensors:
        outputs: Tensors = model(fed, training=False)
        loss = model.compute_loss(x=fed, y_pred=outputs, training=False)
        model.metrics[0].update_state(loss, sample_weight=batch_size(fed))  # Keras' own mean of the loss
        model.compute_metrics(fed, None, outputs)
        return outputs

    backend = keras.backend.backend()
    if backend == "torch":
        return _make_torch_step(step)
    if model.run_eagerly:
        return lambda fed: step(_to_tensors(fed))
    return _make_jax_step(model, step) if backend == "jax" else _make_tensorflow_step(model, step, inputs, targets)


def _make_tensorflow_step(
    model: TrainingModel, step: ValidationStep, inputs: Mapping[str, Spec], targets: Mapping[str, Spec]
) -> ValidationStep:
    import tensorflow as tf

    def signature(specs: Mapping[str, Spec]) -> dict[str, Any]:
        return {name: tf.TensorSpec((None, *spec.shape), spec.dtype) for name, spec in specs.items()}

    # One trace for batches of all shapes, or a last bit would depend on what was validated before; see `network`.
    fed = {"inputs": signature(inputs), "targets": signature(targets)}
    weighted = {**fed, "weights": tf.TensorSpec((None,), "float32")}
    compiled = {
        "weights" in element: tf.function(
            step, autograph=False, jit_compile=model.jit_compile, input_signature=[element]
        )
        for element in (fed, weighted)
    }
    return lambda batch: compiled["weights" in batch](batch)


def _make_jax_step(model: TrainingModel, step: ValidationStep) -> ValidationStep:
    import jax

    variables = [*model.variables, *model.metrics_variables, global_seed_generator().state]

    def stateless(values: list[Any], fed: Mapping[str, Any]) -> tuple[Tensors, list[Any]]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            outputs = step(fed)
        return outputs, [scope.get_current_value(variable) for variable in variables]

    compiled = jax.jit(stateless) if model.jit_compile else stateless

    def run(fed: Mapping[str, Any]) -> Tensors:
        outputs, values = compiled([variable.value for variable in variables], dict(fed))
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return outputs

    return run


def _make_torch_step(step: ValidationStep) -> ValidationStep:
    import torch  # type: ignore[import-not-found]

    def run(fed: Mapping[str, Any]) -> Tensors:
        with torch.no_grad():
            return step(_to_tensors(fed))

    return run


def _to_tensors(fed: Mapping[str, Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = keras.tree.map_structure(keras.ops.convert_to_tensor, dict(fed))
    return tensors
