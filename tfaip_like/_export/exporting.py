"""Exports in further formats: runs the exporters of a scenario and compares what they write with the network."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.layout import (
    MODEL,
    PARAMS,
    PIPELINE,
    RESERVED_NAMES,
    SERVE,
    VERSIONS,
    argument_names,
    read_versions,
)
from tfaip_like._export.missing_saved_models import load_exported_network
from tfaip_like._export.saved_models import SavedModelWriter
from tfaip_like._export.tensorflow_process import call_in_tensorflow_process
from tfaip_like._runs.run_files import METRICS, METRICS_FORMAT, read_metrics
from tfaip_like._user_code.code_errors import CodeError, innermost_user_frame
from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.files import atomic_copy, atomic_directory, copy_directory
from tfaip_like._utils.packages import require_packages
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays
from tfaip_like.exporters import ExportedNetwork, Exporter
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._network import make_predict_fn
from tfaip_like.params import Params
from tfaip_like.params._resources import RESOURCES_DIR

logger = logging.getLogger(__name__)


def check_exporters(exporters: Sequence[Exporter]) -> None:
    """Check that all exporters can run with the installed packages.

    Raises:
        UsageError: If a package is missing, or two exporters write the same file.
        CodeError: If an exporter has no valid name for its file.
    """
    names: set[str] = set()
    for number, exporter in enumerate(exporters):
        flag = f"--exporters.{number} {type(exporter).__name__}"
        require_packages(flag, exporter.required_packages, exporter.extra)
        name = _require_filename(exporter)
        if name in names:
            raise UsageError(f"{flag}: an exporter before it writes {name} as well; remove one of them")
        names.add(name)


def _require_filename(exporter: Exporter) -> str:
    name = getattr(exporter, "filename", None)
    if isinstance(name, str) and Path(name).name == name != "" and name[0] != "." and name not in RESERVED_NAMES:
        return name
    raise CodeError(
        f"{type(exporter).__name__}.filename is {name!r}; it must be the name of a file or directory in the export, "
        f"other than {', '.join(sorted(RESERVED_NAMES))}",
        type(exporter),
    )


def run_exporters(exports: Sequence[Path], exporters: Sequence[Exporter], batch: Batch, scenario: Params) -> None:
    """Write the networks of exports in further formats, and compare their outputs for a batch.

    The libraries convert graphs of TensorFlow; other backends do so in a child process. An exporter that fails is
    reported as a warning.

    Args:
        exports: Export directories.
        exporters: Checked exporters.
        batch: Batch of real samples.
        scenario: Scenario, whose module a child process imports.
    """
    if not exporters:
        return
    inputs = Batch(batch.inputs, {})
    if keras.backend.backend() == "tensorflow":
        write_formats(exports, exporters, inputs, _load_file)
        return
    try:
        call_in_tensorflow_process(scenario, write_formats, exports, exporters, inputs, load_exported_network)
    except (UsageError, RuntimeError, pickle.PicklingError, AttributeError, TypeError) as error:
        logger.warning("cannot convert to other formats: %s", short_error_message(error))


def write_formats(
    exports: Sequence[Path], exporters: Sequence[Exporter], batch: Batch, load: Callable[[Path], keras.Model]
) -> None:
    """Write the networks of exports in further formats, on the TensorFlow backend; see `run_exporters`.

    Args:
        exports: Export directories.
        exporters: Checked exporters.
        batch: Batch of real samples.
        load: Function that loads the network of an export.
    """
    for export in exports:
        _write_formats(export, exporters, batch, load)


def _load_file(export: Path) -> keras.Model:
    return keras.saving.load_model(export / MODEL, compile=False)


def _write_formats(
    export: Path, exporters: Sequence[Exporter], batch: Batch, load: Callable[[Path], keras.Model]
) -> None:
    if not (export / MODEL).exists():
        logger.warning("%s: cannot convert to other formats: Keras could not save %s", export, MODEL)
        return
    with temporary_directory() as folder:
        saved_model = Path(folder, "serve")
        position = TrainingPosition(*read_versions(export).position)
        try:
            network = load(export)
            with use_position(lambda: position):
                with _argmax_without_signed_zero():
                    SavedModelWriter(network).write(saved_model)
                expected = make_predict_fn(network)(batch.inputs)
        except Exception as error:  # of Keras, for layers that it cannot load
            logger.warning("%s: cannot convert to other formats: %s", export, short_error_message(error))
            return
        arguments = argument_names(batch.inputs)
        inputs = {arguments[name]: value for name, value in batch.inputs.items()}
        for exporter in exporters:
            path = Path(folder, exporter.filename)
            try:
                exporter.export(ExportedNetwork(network, saved_model, partial(_write_variant, export)), path)
                actual = exporter.predict(path, inputs)
                _store(path, export / exporter.filename)
            except Exception as error:  # each library raises anything
                frame = innermost_user_frame(error)
                place = f"{frame}: " if frame is not None else ""
                message = short_error_message(error)
                logger.warning("%s%s: cannot write %s: %s", place, export, exporter.filename, message)
            else:
                _compare_outputs(export / exporter.filename, expected, actual, exporter.tolerance)


def _write_variant(export: Path, network: keras.Model, path: Path) -> None:
    """Write an export with another network, without weights for warm starts and metrics, which are of the original."""
    path.mkdir()
    for name in (PARAMS, PIPELINE, VERSIONS):
        atomic_copy(export / name, path / name)
    if (export / RESOURCES_DIR).exists():
        copy_directory(export / RESOURCES_DIR, path / RESOURCES_DIR)
    epoch = {name: value for name, value in read_metrics(export).items() if name == "epoch"}
    METRICS_FORMAT.write(path / METRICS, epoch)
    SavedModelWriter(network, with_logits=True).write(path / SERVE)
    network.save(path / MODEL)


def _store(source: Path, target: Path) -> None:
    """Copy a file or directory into an export."""
    if source.is_dir():
        with atomic_directory(target) as staging:
            copy_directory(source, staging)
    else:
        atomic_copy(source, target)


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


def _compare_outputs(file: Path, expected: Arrays, actual: Mapping[str, Any], tolerance: float) -> None:
    for name, value in expected.items():
        if name not in actual:
            logger.warning("%s: output %r is missing", file, name)
        elif not np.allclose(value, actual[name], rtol=tolerance, atol=tolerance):
            logger.warning("%s: output %r differs from that of the network; its predictions are unreliable", file, name)
