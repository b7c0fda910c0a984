"""Calls of existing Keras models with named inputs, and names for their outputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfaip_like._keras_ext.layer_names import has_automatic_name
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._model import Tensors


def call_keras_model(network: keras.Model, inputs: Tensors, output_names: Sequence[str], origin: str) -> dict[str, Any]:
    """Return the named outputs of a Keras model for named inputs.

    Args:
        network: Functional, sequential or subclassed model.
        inputs: Symbolic inputs by name.
        output_names: Names of its outputs in their order; empty for those of the model.
        origin: Name of what returned the model, for messages.

    Raises:
        UsageError: If the inputs do not match those of the model, or an output has no name.
    """
    expected = getattr(network, "input", None) if network.built else None
    outputs = _call_by_signature(network, inputs) if expected is None else network(_match(expected, inputs, origin))
    return _name_outputs(network, outputs, output_names, origin)


def _match(expected: Any, inputs: Tensors, origin: str) -> Any:
    """Return the inputs in the structure that a model expects: by name, or by order if all names differ."""
    tensors = keras.tree.flatten(expected)
    is_mapping = isinstance(expected, Mapping) and len(expected) == len(tensors)
    names = list(expected) if is_mapping else [tensor.name for tensor in tensors]
    expected_tensors = dict(zip(names, expected.values() if is_mapping else tensors, strict=True))
    if set(names) <= set(inputs):
        chosen = {name: inputs[name] for name in names}
    elif len(names) == len(inputs) and not set(names) & set(inputs):
        chosen = dict(zip(names, inputs.values(), strict=True))
    else:
        chosen = {}
    if not chosen or not all(_accepts(tensor, chosen[name]) for name, tensor in expected_tensors.items()):
        raise UsageError(
            f"{origin}: the model expects the inputs {_describe(expected_tensors)}; the data has {_describe(inputs)}.\n"
            "Change the names or shapes in `Data.inputs`, or override `build` to adapt them."
        )
    chosen = {name: _with_rank_of(tensor, chosen[name]) for name, tensor in expected_tensors.items()}
    return chosen if is_mapping else keras.tree.pack_sequence_as(expected, list(chosen.values()))


def _accepts(expected: keras.KerasTensor, actual: keras.KerasTensor) -> bool:
    """Return whether a tensor has the shape that a model expects, but for a last axis of length 1."""
    shape, other = (tuple(tensor.shape[1:]) for tensor in (expected, actual))
    if len(shape) == len(other) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(other) == len(shape) + 1 and other[-1] == 1:
        other = other[:-1]
    return len(shape) == len(other) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=True)
    )


def _with_rank_of(expected: keras.KerasTensor, actual: keras.KerasTensor) -> keras.KerasTensor:
    """Return a tensor with the last axis of length 1 added or removed, as `fit` does."""
    if len(expected.shape) > len(actual.shape):
        return keras.ops.expand_dims(actual, -1)
    return keras.ops.squeeze(actual, -1) if len(expected.shape) < len(actual.shape) else actual


def _describe(tensors: Mapping[str, keras.KerasTensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape[1:])}" for name, tensor in tensors.items())


def _call_by_signature(network: keras.Model, inputs: Tensors) -> Any:
    """Call a model without fixed inputs: with the only tensor, one per parameter of `call`, or a dictionary."""
    if len(inputs) == 1:
        return network(*inputs.values())
    parameters = set(inspect.signature(network.call).parameters)
    return network(**inputs) if set(inputs) <= parameters else network(dict(inputs))


def _name_outputs(network: keras.Model, outputs: Any, names: Sequence[str], origin: str) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        if names:
            raise UsageError(f"{origin}: the model names its outputs {', '.join(outputs)}; omit `output_names`")
        return dict(outputs)
    tensors = keras.tree.flatten(outputs)
    names = list(names) or _given_output_names(network, len(tensors))
    if len(names) != len(tensors) or len(set(names)) != len(names):
        has = f"`output_names` has {', '.join(names)}" if names else "their layers have no names"
        raise UsageError(
            f"{origin}: the model has {len(tensors)} outputs, and {has}; set `output_names` to {len(tensors)} names"
        )
    return dict(zip(names, tensors, strict=True))


def _given_output_names(network: keras.Model, count: int) -> list[str]:
    """Return the names of the layers of the outputs; `output` for a single one without a name, else none."""
    layers = [tensor._keras_history.operation for tensor in getattr(network, "outputs", None) or []]
    if len(layers) == count and not any(map(has_automatic_name, layers)):
        return [layer.name for layer in layers]
    return ["output"] if count == 1 else []
