"""Exports: a folder with everything that prediction needs.

serve/                SavedModel with named inputs and outputs
model.keras           the same network for Keras
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

import keras

from tfaip_like.files import new_folder
from tfaip_like.network import Networks
from tfaip_like.params import Params
from tfaip_like.params.resources import copied
from tfaip_like.params.store import write_params

SERVE = "serve"
MODEL = "model.keras"
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
