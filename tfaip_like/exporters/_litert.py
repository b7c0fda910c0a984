"""Export to LiteRT (TensorFlow Lite)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfaip_like.exporters._exporter import ExportedNetwork, Exporter

if TYPE_CHECKING:
    from tfaip_like.data._sample import Arrays


class LiteRT(Exporter):
    """LiteRT (TensorFlow Lite), for phones and microcontrollers: `network.tflite`.

    Example:
        >>> LiteRT()
        LiteRT()
    """

    filename = "network.tflite"
    required_packages = ("ai_edge_litert",)
    extra = "tfaip_like[litert]"

    def export(self, network: ExportedNetwork, path: Path) -> None:
        import tensorflow as tf

        signature = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        converter = tf.lite.TFLiteConverter.from_saved_model(str(network.saved_model), signature_keys=[signature])
        path.write_bytes(converter.convert())

    def predict(self, path: Path, inputs: Arrays) -> Mapping[str, Any]:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_content=path.read_bytes()).get_signature_runner()
        used = runner.get_input_details()
        outputs: Mapping[str, Any] = runner(**{name: value for name, value in inputs.items() if name in used})
        return outputs
