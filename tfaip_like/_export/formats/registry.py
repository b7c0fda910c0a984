"""Conversion of an export's `model.keras` to other formats."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.formats.format import Format
from tfaip_like._export.formats.litert import LITERT
from tfaip_like._export.formats.onnx import ONNX
from tfaip_like._export.layout import MODEL
from tfaip_like._export.writing import write_saved_model
from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._network import make_predict_fn
from tfaip_like.settings._trainer import ExportFormat

logger = logging.getLogger(__name__)

FORMATS: Mapping[ExportFormat, Format] = {"onnx": ONNX, "litert": LITERT}
TOLERANCE = 1e-4


def check_formats(formats: Sequence[ExportFormat], flag: str) -> None:
    """Check that all formats can be written with the installed packages and the backend.

    Args:
        formats: Names of formats.
        flag: Flag that named them, for messages.

    Raises:
        UsageError: If a package is missing, or the backend is not TensorFlow.
    """
    for name in formats:
        missing = [package for package in FORMATS[name].required_packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UsageError(f"{flag} {name}: {missing[0]} is not installed; pip install 'tfaip_like[{name}]'")
        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"{flag} {name}: requires the TensorFlow backend (--device.backend tensorflow)")


def add_formats(export: Path, formats: Sequence[ExportFormat], batch: Batch) -> None:
    """Write an export's network in other formats, and compare their outputs for a batch.

    A format that the network cannot be converted to is skipped with a warning.

    Args:
        export: Export directory.
        formats: Names of formats.
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
            file = export / FORMATS[name].filename
            try:
                actual = FORMATS[name].convert(Path(folder, "serve"), file, batch.inputs)
            except Exception as error:  # each library raises anything
                file.unlink(missing_ok=True)
                logger.warning("%s: cannot write %s: %s", export, file.name, short_error_message(error))
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


def _compare_outputs(file: Path, expected: Arrays, actual: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if name not in actual:
            logger.warning("%s: output %r is missing", file, name)
        elif not np.allclose(value, actual[name], rtol=TOLERANCE, atol=TOLERANCE):
            logger.warning("%s: output %r differs from that of the network; its predictions are unreliable", file, name)
