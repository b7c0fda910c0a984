"""Functions of a SavedModel that return the logits as well, see `_keras_ext.logits`.

The outputs of a loaded SavedModel have lost their logits, so their cross entropies would be clipped at 16 and differ
from those of validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like._export.layout import SERVE, WITH_LOGITS
from tfaip_like._keras_ext.logits import find_logits

OUTPUT = "output"
"""Kind of a value that is an output."""


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


def select_outputs(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs among the values of the function `WITH_LOGITS`."""
    return {name.partition(":")[2]: value for name, value in named.items() if is_output(name)}


def is_output(name: str) -> bool:
    """Return whether a value of the function `WITH_LOGITS` is an output."""
    return name.startswith(f"{OUTPUT}:")
