"""Conversion of an export's `model.keras` to ONNX and LiteRT."""

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
"""Packages that convert to and run each format; TensorFlow converts to LiteRT."""
TOLERANCE = 1e-4


def check_formats(formats: Sequence[str], flag: str) -> None:
    """Check that all formats can be written with the installed packages and the backend.

    Args:
        formats: Names of formats (`FORMAT_FILENAMES`).
        flag: Flag that named them, for messages.

    Raises:
        UsageError: If a package is missing, or the backend is not TensorFlow.
    """
    for name in formats:
        missing = [package for package in REQUIRED_PACKAGES[name] if importlib.util.find_spec(package) is None]
        if missing:
            raise UsageError(f"{flag} {name}: {missing[0]} is not installed; pip install 'tfaip_like[{name}]'")
        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"{flag} {name}: requires the TensorFlow backend (--device.backend tensorflow)")


def add_formats(export: Path, formats: Sequence[str], batch: Batch) -> None:
    """Write an export's network in other formats, and compare their outputs for a batch.

    A format that the network cannot be converted to is skipped with a warning.

    Args:
        export: Export directory.
        formats: Names of formats (`FORMAT_FILENAMES`).
        batch: Batch of real samples.
    """
    if not formats:
        return
    if not (export / MODEL).exists():
        logger.warning("%s: cannot convert to other formats: Keras could not save %s", export, MODEL)
        return
    with temporary_directory() as folder:
        try:
            network = keras.saving.load_model(export / MODEL, compile=False)
            with _argmax_without_signed_zero():
                write_saved_model(network, Path(folder, "serve"))
            expected = make_predict_fn(network)(batch.inputs)
        except Exception as error:  # of Keras, for layers that it cannot load
            logger.warning("%s: cannot convert to other formats: %s", export, short_error_message(error))
            return
        for name in formats:
            file = export / FORMAT_FILENAMES[name]
            try:
                actual = _CONVERTERS[name](Path(folder, "serve"), file, batch.inputs)
            except Exception as error:  # each library raises anything
                file.unlink(missing_ok=True)
                logger.warning("%s: cannot write %s: %s", export, FORMAT_FILENAMES[name], short_error_message(error))
            else:
                _compare_outputs(file, expected, actual)


@contextmanager
def _argmax_without_signed_zero() -> Iterator[None]:
    """Replace the handling of -0.0 in `keras.ops.argmax`.

    Keras distinguishes 0.0 from -0.0 by their bits, which ONNX and LiteRT do not support (measured with Keras 3.15).
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


def _to_litert(saved_model: Path, file: Path, inputs: Arrays) -> Mapping[str, Any]:
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


_CONVERTERS: Mapping[str, Callable[[Path, Path, Arrays], Mapping[str, Any]]] = {"onnx": _to_onnx, "litert": _to_litert}


def _compare_outputs(file: Path, expected: Arrays, actual: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if name not in actual:
            logger.warning("%s: output %r is missing", file, name)
        elif not np.allclose(value, actual[name], rtol=TOLERANCE, atol=TOLERANCE):
            logger.warning("%s: output %r differs from that of the network; its predictions are unreliable", file, name)
