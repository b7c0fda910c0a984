"""Conversion of a SavedModel to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfaip_like._export.formats.format import Format
from tfaip_like._export.layout import SIGNATURE, argument_names
from tfaip_like.data._sample import Arrays


def _convert(saved_model: Path, file: Path, inputs: Arrays) -> Mapping[str, Any]:
    import onnxruntime
    import tensorflow as tf
    import tf2onnx.convert

    loaded = tf.saved_model.load(str(saved_model))  # keeps the weights alive
    predict = loaded.signatures[SIGNATURE]
    arguments = argument_names(inputs)
    signature = predict.structured_input_signature[1]

    class ConcreteFunctionWrapper:
        """Adapter for tf2onnx, which expects a function to trace."""

        def get_concrete_function(self, *signature: Any) -> Any:
            return predict

    model, _ = tf2onnx.convert.from_function(ConcreteFunctionWrapper(), list(signature.values()), opset=18)
    names = {
        tensor.name: name for tensor, name in zip(predict.outputs, sorted(predict.structured_outputs), strict=True)
    }
    _rename_tensors(model.graph, names)
    content = model.SerializeToString()
    file.write_bytes(content)
    session = onnxruntime.InferenceSession(content)  # its paths must be UTF-8
    feeds = {arguments[name]: inputs[name] for name in inputs if arguments[name] in signature}
    return dict(zip(names.values(), session.run(list(names.values()), feeds), strict=True))


def _rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors of an ONNX graph: tf2onnx names outputs `Identity:0`."""
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


ONNX = Format("network.onnx", ("tf2onnx", "onnxruntime"), _convert)
