"""Export of a network that is quantized to 8-bit integers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfaip_like._utils.errors import truncate_list
from tfaip_like._utils.lazy_keras import keras
from tfaip_like.exporters._exporter import ExportedNetwork, Exporter

if TYPE_CHECKING:
    from tfaip_like.data._sample import Arrays

logger = logging.getLogger(__name__)


class Int8(Exporter):
    """Network with weights of 8-bit integers, a quarter of the size: `int8/`, an export for `predict-scenario`.

    Keras quantizes Dense, EinsumDense and Embedding layers; the log names the layers that stay in floating point.

    Example:
        >>> Int8(layers="^(?!.*head)")
        Int8(layers='^(?!.*head)')
    """

    filename = "int8"

    layers: str = ""
    """Regular expression; only layers whose name it matches are quantized. By default all that Keras supports."""

    max_difference: float = 0.05
    """Largest difference of an output from that of the network without a warning, absolute plus relative."""

    def check(self) -> None:
        self.require_regex("layers", self.layers)
        self.require(self.max_difference >= 0, "max_difference", "must not be negative")

    @property
    def tolerance(self) -> float:
        """Return the largest accepted difference."""
        return self.max_difference

    def export(self, network: ExportedNetwork, path: Path) -> None:
        quantized = keras.models.clone_model(network.keras)
        quantized.set_weights(network.keras.get_weights())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras for each layer that it cannot quantize; named below
            quantized.quantize("int8", filters=self.layers or None)
        _log_layers(quantized)
        network.write_export(quantized, path)

    def predict(self, path: Path, inputs: Arrays) -> Mapping[str, Any]:
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path / "serve"))
        predict = loaded.signatures[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        used = predict.structured_input_signature[1]
        outputs = predict(**{name: tf.constant(value) for name, value in inputs.items() if name in used})
        return {name: output.numpy() for name, output in outputs.items()}


def _log_layers(network: keras.Model) -> None:
    """Log which layers are quantized.

    Raises:
        ValueError: If there are none.
    """
    leaves = [layer for layer in network._flatten_layers() if len(list(layer._flatten_layers())) == 1 and layer.weights]
    is_quantized = {layer.name: getattr(layer, "quantization_mode", None) is not None for layer in leaves}
    kept = [f"{layer.name} ({type(layer).__name__})" for layer in leaves if not is_quantized[layer.name]]
    if len(kept) == len(leaves):
        raise ValueError(f"no layer can be quantized; Keras supports Dense, EinsumDense and Embedding, not {kept}")
    logger.info(
        "int8: %d layers quantized%s",
        len(leaves) - len(kept),
        f"; in floating point: {truncate_list(kept)}" if kept else "",
    )
