"""SavedModels of exports of another backend, written on TensorFlow from the files of their networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import keras

from tfaip_like._export.eager_network import rebuild_networks
from tfaip_like._export.layout import MODEL, SERVE, read_versions
from tfaip_like._export.saved_models import SavedModelWriter, dirs_without_saved_model, has_saved_models
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._export.tensorflow_process import SCRIPT_MODULE, call_in_tensorflow_process
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._network import Networks
from tfaip_like.params import Params


def add_saved_models(exports: Sequence[Path], scenario: Params) -> None:
    """Write the missing SavedModels of exports, for backends on which Keras cannot write them.

    One child process with TensorFlow writes all of them, because its start takes seconds.

    Args:
        exports: Export directories; those that do not exist are skipped.
        scenario: Scenario, whose module the child process imports.

    Raises:
        UsageError: If TensorFlow cannot build or export a network.
        RuntimeError: If the child process crashes.
    """
    incomplete = [export for export in exports if export.exists() and not has_saved_models(export)]
    if incomplete:
        is_script = type(scenario).__module__ == SCRIPT_MODULE
        call_in_tensorflow_process(scenario, write_missing_saved_models, incomplete, is_script)


def write_missing_saved_models(exports: Sequence[Path], is_script: bool = False) -> None:
    """Write the SavedModel of each network that has none.

    Args:
        exports: Export directories.
        is_script: Whether the scenario is defined in a script, which this process cannot import.
    """
    for export in exports:
        _write_missing(export, is_script)


def _write_missing(export: Path, is_script: bool) -> None:
    position = TrainingPosition(*read_versions(export).position)
    with use_position(lambda: position):
        for folder in dirs_without_saved_model(export):
            staging_dir = folder / f".{SERVE}.new"
            SavedModelWriter(load_network(export, folder, is_script)).write(staging_dir)
            staging_dir.rename(folder / SERVE)


def load_exported_network(export: Path) -> keras.Model:
    """Load the network of an export, or build it with the scenario's code."""
    return load_network(export, export, is_script=False)


def load_network(export: Path, folder: Path, is_script: bool) -> keras.Model:
    """Load a network from its file, or build it with the scenario's code if Keras cannot load the file.

    Keras cannot load layers whose class is not registered, nor a Python lambda.
    """
    try:
        return keras.saving.load_model(folder / MODEL, compile=False)
    except Exception as error:
        if is_script:
            raise UsageError(_script_message(error)) from error
    with allow_untrusted_code():  # it has just been trained with
        networks = rebuild_networks(export, load_scenario(export))
    return _find_network(networks, export, folder)


def _find_network(networks: Networks, export: Path, folder: Path) -> keras.Model:
    return networks.exported if folder == export else networks.extra[folder.name]


def _script_message(error: Exception) -> str:
    missing = re.search(r"Could not locate (?:class|function) '([^']+)'", str(error))
    subject = missing[1] if missing else "a Python lambda" if "lambda" in str(error) else "the network"
    return (
        f"{subject} is defined in a script, which the process that writes the SavedModel cannot import; define the "
        "scenario and its layers in a module that the script imports"
    )
