"""Conversion of a SavedModel to LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfaip_like._export.formats.format import Format
from tfaip_like._export.layout import SIGNATURE, argument_names
from tfaip_like.data._sample import Arrays


def _convert(saved_model: Path, file: Path, inputs: Arrays) -> Mapping[str, Any]:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    content = converter.convert()
    file.write_bytes(content)
    run = Interpreter(model_content=content).get_signature_runner(SIGNATURE)
    arguments = argument_names(inputs)
    feeds = {arguments[name]: inputs[name] for name in inputs if arguments[name] in run.get_input_details()}
    outputs: Mapping[str, Any] = run(**feeds)
    return outputs


LITERT = Format("network.tflite", ("ai_edge_litert",), _convert)
