"""Writing of export directories, see `layout`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.bundled_files import bundled_file_sizes, copy_bundled_files
from tfaip_like._export.layout import (
    ADDITIONAL,
    MODEL,
    PARAMS,
    PIPELINE,
    SERVE,
    VERSIONS,
    VERSIONS_FORMAT,
    WEIGHTS,
    Versions,
    argument_names,
    read_versions,
)
from tfaip_like._export.logits import add_endpoints_with_logits
from tfaip_like._export.pipeline import make_pipeline
from tfaip_like._export.safe_paths import tensorflow_safe_path
from tfaip_like._keras_ext import range_checks
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.package_versions import installed_versions
from tfaip_like._runs.run_files import METRICS, METRICS_FORMAT, read_metrics
from tfaip_like._utils.errors import Interrupted, short_error_message
from tfaip_like._utils.files import atomic_directory, is_disk_full_error
from tfaip_like._utils.processes import run_child_process
from tfaip_like.modeling._context import current_position, use_position
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.params import Params
from tfaip_like.params._files import write_params
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

_ADD_SAVED_MODELS = f"""
import importlib, json, pathlib, sys
from tfaip_like._utils.processes import exit_with_parent
exit_with_parent()
modules, networks = sys.argv[1].split(), json.loads(sys.argv[2])
for module in modules:
    importlib.import_module(module)
import keras
from tfaip_like._export.writing import write_saved_model
from tfaip_like.modeling._context import TrainingPosition, use_position
for name, position in networks:
    folder = pathlib.Path(name)
    staging_dir = folder / ".{SERVE}.new"
    with use_position(lambda: TrainingPosition(*position)):
        write_saved_model(keras.saving.load_model(folder / "{MODEL}", compile=False), staging_dir)
    staging_dir.rename(folder / "{SERVE}")
"""


def write_export(path: Path, networks: Networks, scenario: Scenario, metrics: Mapping[str, float]) -> None:
    """Write an export, which replaces an existing one atomically.

    Depending on the backend it has no SavedModel yet, see `add_saved_models`.

    Args:
        path: Export directory.
        networks: Networks of the model.
        scenario: Scenario whose parameters and pipeline are exported.
        metrics: `epoch` and metrics of the network.
    """
    with atomic_directory(path) as staging_dir:
        fill_export(staging_dir, networks, scenario)
        add_metrics(staging_dir, metrics)


def fill_export(
    folder: Path,
    networks: Networks,
    scenario: Scenario,
    warn: Callable[[str], None] = logger.warning,
    finite_inputs: Sequence[str] = (),
) -> None:
    """Write an export without its metrics into an empty directory.

    Args:
        folder: Empty directory.
        networks: Networks of the model.
        scenario: Scenario whose parameters and pipeline are exported.
        warn: Called with a message about missing parts.
        finite_inputs: Names of the inputs that must not contain NaN or infinity.
    """
    _write_network(folder, networks.exported, warn)
    for name, network in networks.extra.items():
        (folder / ADDITIONAL / name).mkdir(parents=True)
        _write_network(folder / ADDITIONAL / name, network, warn)
    _write_weights(folder / WEIGHTS, networks.training)
    pipeline = make_pipeline(scenario.data, input_names(networks.exported))
    for tree, name in zip(copy_bundled_files(folder, scenario, pipeline), (PARAMS, PIPELINE), strict=True):
        write_params(tree, folder / name)
    versions = Versions(
        packages=installed_versions(),
        resources=bundled_file_sizes(folder),
        finite_inputs=tuple(finite_inputs),
        outputs={name: tuple(output.shape[1:]) for name, output in networks.exported.output.items()},
        position=tuple(current_position()),
    )
    VERSIONS_FORMAT.write(folder / VERSIONS, versions)
    METRICS_FORMAT.write(folder / METRICS, {})


def add_metrics(export: Path, values: Mapping[str, float]) -> None:
    """Add values to the metrics of an export."""
    METRICS_FORMAT.write(export / METRICS, {**read_metrics(export), **values})


def write_saved_model(network: keras.Model, folder: Path, with_logits: bool = False) -> None:
    """Write a network in inference mode as a SavedModel with the same input and output names.

    `network.export` traces without `training`, which would leave layers active whose `training` argument defaults to
    True (all augmentation layers of Keras).

    Args:
        network: Network to write.
        folder: Directory of the SavedModel.
        with_logits: Add a function that also returns the logits of outputs, see `logits`.
    """
    arguments = argument_names(input_names(network))
    signature = {
        tensor.name: keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=arguments[tensor.name])
        for tensor in network.inputs
    }

    position = current_position()

    def predict(inputs: Any) -> Any:
        constant = use_position(lambda: position)
        with constant, range_checks.assert_ids_in_range(), range_checks.RangeRecorder() as ids:
            outputs = network(inputs, training=False)
        # Exports of JAX do not support assertions.
        return ids.mask_invalid_samples(outputs) if keras.backend.backend() == "jax" else outputs

    archive = keras.export.ExportArchive()
    archive.track(network)
    if with_logits and keras.backend.backend() == "tensorflow":
        add_endpoints_with_logits(archive, predict, signature)
    else:
        archive.add_endpoint(SERVE, predict, [signature])
    folder.mkdir(parents=True, exist_ok=True)
    with tensorflow_safe_path(folder) as path:
        archive.write_out(str(path), verbose=False)


def has_saved_models(export: Path) -> bool:
    """Return whether all networks of an export have a SavedModel."""
    return all((folder / SERVE).exists() for folder in _network_dirs(export))


def _network_dirs(export: Path) -> list[Path]:
    return [export, *(folder for folder in sorted((export / ADDITIONAL).glob("*")) if folder.is_dir())]


def add_saved_models(exports: Sequence[Path], scenario: Params) -> None:
    """Write the missing SavedModels of exports, for backends on which Keras cannot write them.

    One child process with TensorFlow writes all of them, because its start takes seconds.

    Args:
        exports: Export directories.
        scenario: Scenario, whose module the child process imports.

    Raises:
        RuntimeError: If TensorFlow cannot export a network.
    """
    networks = [
        (str(folder), read_versions(export).position)
        for export in exports
        if export.exists()
        for folder in _network_dirs(export)
        if not (folder / SERVE).exists()
    ]
    if not networks:
        return
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    module = type(scenario).__module__
    command = [sys.executable, "-c", _ADD_SAVED_MODELS, "" if module == "__main__" else module]
    command.append(json.dumps(networks))
    done = run_child_process(command, environment)
    if done.returncode:
        raise RuntimeError(f"TensorFlow cannot export the network:\n{done.stderr[-2000:]}")


def _write_weights(file: Path, network: keras.Model) -> None:
    """Write the weights of a network by path.

    No other file of an export has all weights by path. Measured with Keras 3.15: a SavedModel written on TensorFlow
    drops the names of nested layers (`own/kernel` for `own/dense_2/kernel`), on JAX of all layers (`kernel`), and on
    PyTorch it is written last; model.keras numbers the weights of a layer and cannot be read without the classes of
    its layers; and both lack weights that only the training network uses.
    """
    np.savez(file, **{path: _to_numpy(weight) for path, weight in weight_paths(network).items()})  # type: ignore[arg-type]


def _to_numpy(weight: keras.Variable) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = keras.ops.convert_to_numpy(weight.value)
    # NumPy files do not support bfloat16.
    return array.astype("float32") if array.dtype.kind == "V" else array


def _write_network(folder: Path, network: keras.Model, warn: Callable[[str], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that the prediction network is not compiled
        has_saved_model = _try_write_saved_model(folder / SERVE, network)
        try:
            network.save(folder / MODEL)
        except Exception as error:
            (folder / MODEL).unlink(missing_ok=True)
            if not has_saved_model or isinstance(error, (Interrupted, OSError)) or is_disk_full_error(error):
                raise
            name = f"{ADDITIONAL}/{folder.name}/{MODEL}" if folder.parent.name == ADDITIONAL else MODEL
            warn(
                f"exports lack {name}: Keras cannot save the network: {type(error).__name__}: "
                f"{short_error_message(error)}\n"
                f"Inference, LAV and warm starts work (they use {SERVE}/ and {WEIGHTS}); ONNX and LiteRT do not."
            )


def _try_write_saved_model(folder: Path, network: keras.Model) -> bool:
    """Write a SavedModel; return False if only TensorFlow can, from model.keras."""
    backend = keras.backend.backend()
    if backend == "torch":
        return False
    try:
        write_saved_model(network, folder, with_logits=True)
    except Exception as error:
        if backend == "tensorflow":
            raise
        # Measured: Keras exports to JAX with a distinct symbol for each unknown axis, so a network that adds two
        # sequences cannot be exported.
        logger.debug("JAX cannot export the network, falling back to TensorFlow: %s", error)
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True
