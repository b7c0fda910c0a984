"""Further formats of an export, made of its `model.keras`: ONNX, and LiteRT for phones and small devices."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.layout import MODEL, SIGNATURE, argument_names
from tfaip_like._export.writing import write_saved_model
from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._network import make_predict_fn

logger = logging.getLogger(__name__)

FORMAT_FILENAMES = {"onnx": "network.onnx", "litert": "network.tflite"}
REQUIRED_PACKAGES = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}
"""The packages of each format: one writes it or it comes with TensorFlow, one runs it."""
TOLERANCE = 1e-4


def check_formats(formats: Sequence[str], flag: str) -> None:
    """Raises `UsageError` when a format cannot be written here."""
    for name in formats:
        missing = [package for package in REQUIRED_PACKAGES[name] if importlib.util.find_spec(package) is None]
        if missing:
            raise UsageError(f"{flag} {name}: {missing[0]} is not installed; pip install 'tfaip_like[{name}]'")
        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"{flag} {name}: is written by TensorFlow; no other backend supports it")


def add_formats(export: Path, formats: Sequence[str], batch: Batch) -> None:
    """Writes an export's network in other formats, and compares what they predict for a batch.

    What cannot be converted is told, and left out: not every operation exists everywhere.
    """
    if not formats:
        return
    if not (export / MODEL).exists():
        logger.warning("%s: no other formats can be written: Keras could not save %s", export, MODEL)
        return
    with temporary_directory() as folder:
        try:
            network = keras.saving.load_model(export / MODEL, compile=False)
            with _argmax_without_signed_zero():
                write_saved_model(network, Path(folder, "serve"))
            expected = make_predict_fn(network)(batch.inputs)
        except Exception as error:  # of Keras, for layers that it cannot find again
            logger.warning("%s: no other formats can be written: %s", export, short_error_message(error))
            return
        for name in formats:
            file = export / FORMAT_FILENAMES[name]
            try:
                answers = _CONVERTERS[name](Path(folder, "serve"), file, batch.inputs)
            except Exception as error:  # each library raises anything
                file.unlink(missing_ok=True)
                logger.warning(
                    "%s: %s cannot be written: %s", export, FORMAT_FILENAMES[name], short_error_message(error)
                )
            else:
                _compare_outputs(file, expected, answers)


@contextmanager
def _argmax_without_signed_zero() -> Iterator[None]:
    """Makes `keras.ops.argmax` what it says.

    Keras tells 0.0 from -0.0 there, bit by bit, which neither ONNX nor LiteRT can (measured with Keras 3.15).
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import numpy as backend

    before = getattr(backend, "signbit", None)
    backend.signbit = lambda x: tf.zeros_like(x, tf.bool)
    try:
        yield
    finally:
        backend.signbit = before


def _to_onnx(saved_model: Path, file: Path, inputs: Arrays) -> Mapping[str, Any]:
    import onnxruntime
    import tensorflow as tf
    import tf2onnx.convert

    loaded = tf.saved_model.load(str(saved_model))  # to be kept: it owns the weights
    predict = loaded.signatures[SIGNATURE]
    arguments = argument_names(inputs)
    signature = predict.structured_input_signature[1]

    class ConcreteFunctionWrapper:
        """What tf2onnx takes: it asks for the concrete function, which is there already."""

        def get_concrete_function(self, *signature: Any) -> Any:
            return predict

    model, _ = tf2onnx.convert.from_function(ConcreteFunctionWrapper(), list(signature.values()), opset=18)
    names = {
        tensor.name: name for tensor, name in zip(predict.outputs, sorted(predict.structured_outputs), strict=True)
    }
    _rename_tensors(model.graph, names)
    content = model.SerializeToString()
    file.write_bytes(content)
    session = onnxruntime.InferenceSession(content)  # it takes no path that is not UTF-8
    feeds = {arguments[name]: inputs[name] for name in inputs if arguments[name] in signature}
    return dict(zip(names.values(), session.run(list(names.values()), feeds), strict=True))


def _rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Gives tensors of an ONNX graph other names: tf2onnx calls outputs `Identity:0`."""
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _to_litert(saved_model: Path, file: Path, inputs: Arrays) -> Mapping[str, Any]:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    content = converter.convert()
    file.write_bytes(content)
    run = Interpreter(model_content=content).get_signature_runner(SIGNATURE)
    arguments = argument_names(inputs)
    feeds = {arguments[name]: inputs[name] for name in inputs if arguments[name] in run.get_input_details()}
    answers: Mapping[str, Any] = run(**feeds)
    return answers


_CONVERTERS: Mapping[str, Callable[[Path, Path, Arrays], Mapping[str, Any]]] = {"onnx": _to_onnx, "litert": _to_litert}


def _compare_outputs(file: Path, expected: Arrays, answers: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if name not in answers:
            logger.warning("%s has no output %r", file, name)
        elif not np.allclose(value, answers[name], rtol=TOLERANCE, atol=TOLERANCE):
            logger.warning("%s: output %r differs from that of the network; do not trust it", file, name)
