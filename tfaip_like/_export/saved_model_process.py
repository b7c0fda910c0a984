"""Child process with TensorFlow that writes SavedModels, see `saved_models.add_saved_models`."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import keras

from tfaip_like._export.eager_network import rebuild_networks
from tfaip_like._export.layout import MODEL, SERVE, read_versions
from tfaip_like._export.saved_models import SavedModelWriter, dirs_without_saved_model
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like._user_code.error_hints import describe_error
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._network import Networks


def main() -> None:
    """Write the SavedModels that the command line names: FILE_FOR_AN_ERROR MODULE EXPORT..."""
    problem, module, *exports = sys.argv[1:]
    is_script = module == "__main__"
    keras.config.disable_traceback_filtering()  # otherwise Keras replaces exceptions of layers
    try:
        if not is_script:
            importlib.import_module(module)  # registers its layers
        for export in map(Path, exports):
            write_missing_saved_models(export, is_script)
    except Exception as error:  # of user code: anything
        Path(problem).write_text(_describe(error), encoding="utf-8")


def write_missing_saved_models(export: Path, is_script: bool = False) -> None:
    """Write the SavedModel of each network of an export that has none.

    Args:
        export: Export directory.
        is_script: Whether the scenario is defined in a script, which this process cannot import.
    """
    position = TrainingPosition(*read_versions(export).position)
    with use_position(lambda: position):
        for folder in dirs_without_saved_model(export):
            staging_dir = folder / f".{SERVE}.new"
            SavedModelWriter(_load_network(export, folder, is_script)).write(staging_dir)
            staging_dir.rename(folder / SERVE)


def _load_network(export: Path, folder: Path, is_script: bool) -> keras.Model:
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


def _describe(error: Exception) -> str:
    if isinstance(error, UsageError):
        return str(error)
    frame = innermost_user_frame(error)
    return (
        f"{frame or 'the network'}\n{describe_error(error)}\nExports are TensorFlow SavedModels: use only keras.layers "
        "and keras.ops in the network."
    )
