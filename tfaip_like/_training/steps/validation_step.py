"""Validation step on each backend: updates losses and metrics, and returns the outputs of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from tfaip_like._keras_ext.random_states import global_seed_generator
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like.data._sample import Spec
from tfaip_like.modeling._model import Tensors

ValidationStep: TypeAlias = Callable[[Mapping[str, Any]], Tensors]
"""Function from model inputs to the outputs of the training network in inference mode."""


def make_validation_step(
    model: TrainingModel, inputs: Mapping[str, Spec], targets: Mapping[str, Spec]
) -> ValidationStep:
    """Return the validation step of the backend, compiled like the training step.

    Args:
        model: compiled training model.
        inputs: shapes and dtypes of the inputs of a sample, by name.
        targets: shapes and dtypes of the targets of a sample, by name.
    """

    def step(batch: Mapping[str, Any]) -> Tensors:
        return model.evaluate_batch(batch, training=False)[0]

    backend = keras.backend.backend()
    if backend == "torch":
        return _make_torch_step(step)
    if model.run_eagerly:
        return lambda batch: step(_to_tensors(batch))
    return _make_jax_step(model, step) if backend == "jax" else _make_tensorflow_step(model, step, inputs, targets)


def _make_tensorflow_step(
    model: TrainingModel, step: ValidationStep, inputs: Mapping[str, Spec], targets: Mapping[str, Spec]
) -> ValidationStep:
    import tensorflow as tf

    def signature(specs: Mapping[str, Spec]) -> dict[str, Any]:
        return {name: tf.TensorSpec((None, *spec.shape), spec.tensor_dtype) for name, spec in specs.items()}

    # One trace for all batch sizes; otherwise the last bit would depend on earlier validations; see `network`.
    numeric = {name: spec for name, spec in targets.items() if not spec.is_text}
    plain = {"inputs": signature(inputs), "targets": signature(numeric)}
    weighted = {**plain, "weights": tf.TensorSpec((None,), "float32")}
    compiled = {
        "weights" in element: tf.function(
            step, autograph=False, jit_compile=model.jit_compile, input_signature=[element]
        )
        for element in (plain, weighted)
    }
    return lambda batch: compiled["weights" in batch](batch)


def _make_jax_step(model: TrainingModel, step: ValidationStep) -> ValidationStep:
    import jax

    variables = [*model.variables, *model.metrics_variables, global_seed_generator().state]

    def stateless(values: list[Any], batch: Mapping[str, Any]) -> tuple[Tensors, list[Any]]:
        with keras.StatelessScope(list(zip(variables, values, strict=True)), collect_losses=True) as scope:
            outputs = step(batch)
        return outputs, [scope.get_current_value(variable) for variable in variables]

    compiled = jax.jit(stateless) if model.jit_compile else stateless

    def run(batch: Mapping[str, Any]) -> Tensors:
        outputs, values = compiled([variable.value for variable in variables], dict(batch))
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return outputs

    return run


def _make_torch_step(step: ValidationStep) -> ValidationStep:
    import torch  # type: ignore[import-not-found]

    def run(batch: Mapping[str, Any]) -> Tensors:
        with torch.no_grad():
            return step(_to_tensors(batch))

    return run


def _to_tensors(batch: Mapping[str, Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = keras.tree.map_structure(keras.ops.convert_to_tensor, dict(batch))
    return tensors
