"""Exports: a folder with everything that prediction needs; see `layout`."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.bundled_files import bundled_file_sizes, copy_bundled_files
from tfaip_like._export.layout import (
    ADDITIONAL,
    FINITE_INPUTS,
    METRICS,
    MODEL,
    OUTPUTS,
    PARAMS,
    PIPELINE,
    SERVE,
    VERSIONS,
    WEIGHTS,
    argument_names,
    read_metrics,
)
from tfaip_like._export.logits import add_endpoints_with_logits
from tfaip_like._export.pipeline import make_pipeline
from tfaip_like._export.safe_paths import tensorflow_safe_path
from tfaip_like._keras_ext import range_checks
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._utils.errors import Interrupted, short_error_message
from tfaip_like._utils.files import atomic_directory, is_disk_full_error
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.processes import run_child_process
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.params import Params
from tfaip_like.params._files import write_params
from tfaip_like.params._resources import RESOURCES_DIR
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

RECORDED_PACKAGES = ("tfaip_like", "keras", "tensorflow")

_ADD_SAVED_MODELS = f"""
import importlib, pathlib, sys
from tfaip_like._utils.processes import exit_with_parent
exit_with_parent()
modules, folders = sys.argv[1].split(), map(pathlib.Path, sys.argv[2:])
for module in modules:
    importlib.import_module(module)
import keras
from tfaip_like._export.writing import write_saved_model
for folder in folders:
    staging_dir = folder / ".{SERVE}.new"
    write_saved_model(keras.saving.load_model(folder / "{MODEL}", compile=False), staging_dir)
    staging_dir.rename(folder / "{SERVE}")
"""


def write_export(path: Path, networks: Networks, scenario: Scenario, metrics: Mapping[str, float]) -> None:
    """Writes an export; one that is there already is replaced when the new one is complete.

    It may have no SavedModel yet: see `add_saved_models`.
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
    """Write an export, all but its metrics, into an empty folder.

    Args:
        warn: called with what is missing in it.
        finite_inputs: those in which it refuses NaN and infinity.
    """
    _write_network(folder, networks.exported, warn)
    for name, network in networks.extra.items():
        (folder / ADDITIONAL / name).mkdir(parents=True)
        _write_network(folder / ADDITIONAL / name, network, warn)
    _write_weights(folder / WEIGHTS, networks.training)
    pipeline = make_pipeline(scenario.data, input_names(networks.exported))
    for tree, name in zip(copy_bundled_files(folder, scenario, pipeline), (PARAMS, PIPELINE), strict=True):
        write_params(tree, folder / name)
    outputs = {name: list(output.shape[1:]) for name, output in networks.exported.output.items()}
    facts = {RESOURCES_DIR: bundled_file_sizes(folder), FINITE_INPUTS: list(finite_inputs), OUTPUTS: outputs}
    write_json(folder / VERSIONS, {**_package_versions(), **facts})
    write_json(folder / METRICS, {})


def add_metrics(export: Path, values: Mapping[str, float]) -> None:
    """Adds values to the metrics of an export."""
    write_json(export / METRICS, {**read_metrics(export), **values})


def write_saved_model(network: keras.Model, folder: Path, with_logits: bool = False) -> None:
    """Write a network in inference mode as a SavedModel; its inputs and outputs keep their names.

    `network.export` traces without `training`, so layers whose `training` argument defaults to True (all augmentation
    layers of Keras) would stay active.

    Args:
        with_logits: add a function that also returns the logits of outputs, see `with_logits`.
    """
    arguments = argument_names(input_names(network))
    signature = {
        tensor.name: keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=arguments[tensor.name])
        for tensor in network.inputs
    }

    def predict(inputs: Any) -> Any:
        with range_checks.assert_ids_in_range(), range_checks.RangeRecorder() as ids:
            outputs = network(inputs, training=False)
        # An export of JAX cannot assert.
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
    """Return whether no network of an export lacks its SavedModel."""
    return all((folder / SERVE).exists() for folder in _network_dirs(export))


def _network_dirs(export: Path) -> list[Path]:
    return [export, *(folder for folder in sorted((export / ADDITIONAL).glob("*")) if folder.is_dir())]


def add_saved_models(exports: Sequence[Path], scenario: Params) -> None:
    """Writes the SavedModels that exports lack: from where Keras could not write them.

    A process with TensorFlow does it, once for all of them because its start takes seconds.
    """
    folders = [folder for export in exports if export.exists() for folder in _network_dirs(export)]
    folders = [folder for folder in folders if not (folder / SERVE).exists()]
    if not folders:
        return
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    module = type(scenario).__module__
    command = [sys.executable, "-c", _ADD_SAVED_MODELS, "" if module == "__main__" else module]
    command += [str(folder) for folder in folders]
    done = run_child_process(command, environment)
    if done.returncode:
        raise RuntimeError(f"TensorFlow could not export the network:\n{done.stderr[-2000:]}")


def _write_weights(file: Path, network: keras.Model) -> None:
    """Writes the weights of a network by their paths.

    No other file of an export has them all. Measured with Keras 3.15: a SavedModel written on TensorFlow
    forgets layers that are made within others (`own/kernel` for `own/dense_2/kernel`), on JAX all layers
    (`kernel`), on PyTorch it comes last; model.keras numbers the weights of a layer and cannot be read without
    reading its layers' classes; and both lack what only the training uses.
    """
    np.savez(file, **{path: _to_numpy(weight) for path, weight in weight_paths(network).items()})  # type: ignore[arg-type]


def _to_numpy(weight: keras.Variable) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = keras.ops.convert_to_numpy(weight.value)
    # numpy's files know nothing of bfloat16.
    return array.astype("float32") if array.dtype.kind == "V" else array


def _write_network(folder: Path, network: keras.Model, warn: Callable[[str], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that a network for prediction was not compiled
        has_saved_model = _try_write_saved_model(folder / SERVE, network)
        try:
            network.save(folder / MODEL)
        except Exception as error:
            (folder / MODEL).unlink(missing_ok=True)
            if not has_saved_model or isinstance(error, (Interrupted, OSError)) or is_disk_full_error(error):
                raise
            name = f"{ADDITIONAL}/{folder.name}/{MODEL}" if folder.parent.name == ADDITIONAL else MODEL
            warn(
                f"exports have no {name}, Keras cannot save the network: {type(error).__name__}: "
                f"{short_error_message(error)}\n"
                f"{SERVE}/ and {WEIGHTS} are written, so predictions, LAV and warm starts work; ONNX and LiteRT do not."
            )


def _try_write_saved_model(folder: Path, network: keras.Model) -> bool:
    """Write a SavedModel; False where only a process with TensorFlow can, from model.keras."""
    backend = keras.backend.backend()
    if backend == "torch":
        return False
    try:
        write_saved_model(network, folder, with_logits=True)
    except Exception as error:
        if backend == "tensorflow":
            raise
        # Measured: Keras tells JAX that no two axes of unknown length are ever the same, so it cannot export
        # a network that adds a sequence to another.
        logger.debug("JAX could not export the network, TensorFlow will: %s", error)
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # used from its source, without being installed
            versions[package] = "unknown"
    return versions
