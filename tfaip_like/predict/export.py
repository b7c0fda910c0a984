"""Exports: a folder with everything that prediction needs.

serve/                SavedModel with named inputs and outputs
model.keras           the same network for Keras
weights.npz           the weights of the trained network by their paths, for a warm start
scenario_params.json  the parameters of the scenario
resources/            files that its pipeline needs, which the parameters name
metrics.json          epoch and values that the network reached
additional/NAME/      further networks of the model, each with serve/ and model.keras
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like.files import new_folder
from tfaip_like.keras_additions.paths import weight_paths
from tfaip_like.network import Networks
from tfaip_like.params import Params
from tfaip_like.params.resources import copied
from tfaip_like.params.store import write_params

SERVE = "serve"
MODEL = "model.keras"
WEIGHTS = "weights.npz"
PARAMS = "scenario_params.json"
METRICS = "metrics.json"
ADDITIONAL = "additional"

_EXPORT_WITH_TENSORFLOW = f"""
import importlib, pathlib, sys
modules, folders = sys.argv[1].split(), sys.argv[2:]
for module in modules:
    importlib.import_module(module)
import keras
for file in (file for folder in folders for file in pathlib.Path(folder).rglob("{MODEL}")):
    aside = file.parent / ".{SERVE}.new"
    keras.saving.load_model(file, compile=False).export(str(aside), verbose=False)
    aside.rename(file.parent / "{SERVE}")
"""


def write_export(path: Path, networks: Networks, scenario: Params, metrics: Mapping[str, float]) -> None:
    """Writes an export; one that is there already is replaced when the new one is complete.

    On PyTorch it has no SavedModel yet: see `add_saved_models`.
    """
    with new_folder(path) as aside:
        _write_network(aside, networks.prediction)
        _write_weights(aside / WEIGHTS, networks.training)
        for name, network in networks.extra.items():
            (aside / ADDITIONAL / name).mkdir(parents=True)
            _write_network(aside / ADDITIONAL / name, network)
        write_params(copied(scenario, aside), aside / PARAMS)
        (aside / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")


def read_metrics(path: Path) -> dict[str, float]:
    """The epoch and the values that an export's network reached; nothing if there is no export."""
    try:
        values: dict[str, float] = json.loads((path / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def _write_network(folder: Path, network: keras.Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that a network for prediction was not compiled
        network.save(folder / MODEL)
        if keras.backend.backend() != "torch":
            network.export(str(folder / SERVE), format="tf_saved_model", verbose=False)


def _write_weights(file: Path, network: keras.Model) -> None:
    """Writes the weights of a network by their paths.

    No other file of an export has them all. Measured with Keras 3.15: a SavedModel written on TensorFlow
    forgets layers that are made within others (`own/kernel` for `own/dense_2/kernel`), on JAX all layers
    (`kernel`), on PyTorch it comes last; model.keras numbers the weights of a layer and cannot be read without
    reading its layers' classes; and both lack what only the training uses.
    """
    np.savez(file, **{path: _plain(weight) for path, weight in weight_paths(network).items()})  # type: ignore[arg-type]


def _plain(weight: keras.Variable) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = keras.ops.convert_to_numpy(weight.value)
    # numpy's files know nothing of bfloat16.
    return array.astype("float32") if array.dtype.kind == "V" else array


def add_saved_models(folders: Sequence[Path], scenario: Params) -> None:
    """Writes the SavedModels of exports that have none: on PyTorch, from where Keras cannot write them.

    A process with TensorFlow does it, once for all of them because its start takes seconds.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    module = type(scenario).__module__
    command = [sys.executable, "-c", _EXPORT_WITH_TENSORFLOW, "" if module == "__main__" else module]
    command += [str(folder) for folder in folders if folder.exists()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"TensorFlow could not export the network:\n{done.stderr[-2000:]}")
