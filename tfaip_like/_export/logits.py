"""Logits of an exported network, from which Keras computes cross entropies on TensorFlow.

`keras.losses` do not use the given probabilities: the TensorFlow backend looks up the tensor from which a softmax or
sigmoid was computed (`_get_logits` in keras/src/backend/tensorflow/nn.py, Keras 3.15), by the attribute `_keras_logits`
that Keras' activations set, or as the input of a Softmax or Sigmoid operation. The outputs of a loaded SavedModel have
lost both, so their cross entropies would be clipped at 16 and differ from those of validation. JAX and PyTorch do not
look up logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like._export.layout import SERVE, WITH_LOGITS

OUTPUT, LOGITS = "output", "logits"
_ACTIVATION_OPERATIONS = ("softmax", "sigmoid")


def add_endpoints_with_logits(archive: Any, predict: Callable[[Any], Any], signature: Mapping[str, Any]) -> None:
    """Add the inference function to an `ExportArchive`, and one that also returns logits, if there are any.

    Args:
        archive: Keras' `ExportArchive`.
        predict: Function from named inputs to named outputs.
        signature: Input specs by name.
    """
    import tensorflow as tf

    specs = {
        name: tf.TensorSpec(shape=spec.shape, dtype=spec.dtype, name=spec.name) for name, spec in signature.items()
    }

    def predict_with_logits(inputs: Any) -> dict[str, Any]:
        outputs = predict(inputs)
        named = {f"{OUTPUT}:{name}": tensor for name, tensor in outputs.items()}
        logits = {name: find_logits(tensor) for name, tensor in outputs.items()}
        return named | {f"{found[0]}:{name}": found[1] for name, found in logits.items() if found is not None}

    # Traced once and called by both functions: a second trace would double the time and the size of the graph.
    traced = tf.function(predict_with_logits, input_signature=[specs], autograph=False)
    names = traced.get_concrete_function().structured_outputs

    def predict_only(inputs: Any) -> dict[str, Any]:
        return select_outputs(traced(inputs))

    archive.add_endpoint(SERVE, predict_only, [signature])
    if not all(is_output(name) for name in names):
        archive.add_endpoint(WITH_LOGITS, lambda inputs: traced(inputs), [signature])


def find_logits(tensor: Any) -> tuple[str, Any] | None:
    """Return the kind and the tensor of the logits that Keras would use for a symbolic output, or None."""
    if hasattr(tensor, "_keras_logits"):
        return LOGITS, tensor._keras_logits
    kind = tensor.op.type.lower()
    return (kind, tensor.op.inputs[0]) if kind in _ACTIVATION_OPERATIONS else None


def select_outputs(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs among the values of the function `WITH_LOGITS`."""
    return {name.partition(":")[2]: value for name, value in named.items() if is_output(name)}


def is_output(name: str) -> bool:
    """Return whether a value of the function `WITH_LOGITS` is an output."""
    return name.startswith(f"{OUTPUT}:")


def attach_logits(outputs: Mapping[str, Any], logits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs with the logits attached, which Keras' losses look up.

    Args:
        outputs: Symbolic tensors by name.
        logits: Values of the function `WITH_LOGITS` that are not outputs.
    """
    import keras

    attached = dict(outputs)
    if keras.backend.backend() != "tensorflow":
        return attached
    import tensorflow as tf

    for key, value in logits.items():
        kind, _, name = key.partition(":")
        if kind == LOGITS:
            attached[name] = tf.identity(outputs[name])
            attached[name]._keras_logits = value
        else:
            attached[name] = getattr(tf.nn, kind)(value)
    return attached
