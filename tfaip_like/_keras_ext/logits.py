"""Logits of outputs, from which Keras computes cross entropies on TensorFlow.

`keras.losses` do not use the given probabilities: the TensorFlow backend looks up the tensor from which a softmax or
sigmoid was computed (`_get_logits` in keras/src/backend/tensorflow/nn.py, Keras 3.15), by the attribute `_keras_logits`
that Keras' activations set, or as the input of a Softmax or Sigmoid operation. JAX and PyTorch do not look up logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOGITS = "logits"
"""Kind of logits that Keras' activations attach; other kinds are the operation that follows."""
_ACTIVATION_OPERATIONS = ("softmax", "sigmoid")


def find_logits(tensor: Any) -> tuple[str, Any] | None:
    """Return the kind and the tensor of the logits that Keras would use for a symbolic output, or None."""
    if hasattr(tensor, "_keras_logits"):
        return LOGITS, tensor._keras_logits
    kind = tensor.op.type.lower()
    return (kind, tensor.op.inputs[0]) if kind in _ACTIVATION_OPERATIONS else None


def attach_logits(outputs: Mapping[str, Any], logits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs with the logits attached, which Keras' losses look up.

    Args:
        outputs: Symbolic tensors by name.
        logits: Logits by `KIND:NAME`, with the kinds of `find_logits`.
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
