"""Export to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfaip_like.exporters._exporter import ExportedNetwork, Exporter

if TYPE_CHECKING:
    from tfaip_like.data._sample import Arrays


class ONNX(Exporter):
    """ONNX, for onnxruntime, TensorRT and others: `network.onnx`.

    Example:
        >>> ONNX(opset=17)
        ONNX(opset=17)
    """

    filename = "network.onnx"
    required_packages = ("tf2onnx", "onnxruntime")
    extra = "tfaip_like[onnx]"

    opset: int = 18
    """Version of the ONNX operator set; older runtimes need an older one."""

    def check(self) -> None:
        self.require(self.opset > 0, "opset", "must be above 0")

    def export(self, network: ExportedNetwork, path: Path) -> None:
        import tensorflow as tf
        import tf2onnx.convert

        loaded = tf.saved_model.load(str(network.saved_model))  # keeps the weights alive
        predict = loaded.signatures[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]

        class ConcreteFunctionWrapper:
            """Adapter for tf2onnx, which expects a function to trace."""

            def get_concrete_function(self, *signature: Any) -> Any:
                return predict

        signature = list(predict.structured_input_signature[1].values())
        model, _ = tf2onnx.convert.from_function(ConcreteFunctionWrapper(), signature, opset=self.opset)
        names = {
            tensor.name: name for tensor, name in zip(predict.outputs, sorted(predict.structured_outputs), strict=True)
        }
        _rename_tensors(model.graph, names)
        path.write_bytes(model.SerializeToString())

    def predict(self, path: Path, inputs: Arrays) -> Mapping[str, Any]:
        import onnxruntime

        session = onnxruntime.InferenceSession(path.read_bytes())  # a path must be UTF-8
        names = [output.name for output in session.get_outputs()]
        feeds = {argument.name: inputs[argument.name] for argument in session.get_inputs()}
        return dict(zip(names, session.run(names, feeds), strict=True))


def _rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors of an ONNX graph: tf2onnx names outputs `Identity:0`."""
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
