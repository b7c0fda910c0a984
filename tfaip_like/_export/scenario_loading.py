"""The scenario that an export was made of, from its parameters and the scenario's code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import cast

from tfaip_like._export.bundled_files import with_own_files
from tfaip_like._export.layout import PARAMS
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import named_class, scenario_of_file
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.lazy_keras import BACKENDS, choose_backend
from tfaip_like.params._apply import Resolved, apply, checked, file_settings
from tfaip_like.params._base import with_defaults
from tfaip_like.params._store import read_values
from tfaip_like.scenario import Scenario


def rebuilt_scenario(export: Path) -> Scenario:
    """Return the scenario of an export; its code is imported under the rule of `tfaip_like._user_code.trust`.

    Raises:
        UsageError: when its code cannot be imported here, or does not fit its parameters.
    """
    file = export / PARAMS
    if not file.is_file():
        raise UsageError(f"{export}: is no export: it has no {PARAMS}")
    return with_own_files(scenario_in_file(file, OutputDir(export.parent)), export, PARAMS, only_resources=True)


def scenario_in_file(file: Path, run: OutputDir) -> Scenario:
    """Return the scenario whose parameters a file holds, with its paths as they are written there.

    Args:
        run: what the file belongs to.

    Raises:
        UsageError: when its code cannot be imported here, or does not fit its parameters.
    """
    values = read_values(file)
    tag = named_class(values, file)
    device = values.get("device")
    backend = device.get("backend") if isinstance(device, dict) else None
    if isinstance(backend, str) and backend in BACKENDS:
        with suppress(UsageError):  # it can be used where it could not be trained
            choose_backend(backend)
    try:
        cls = scenario_of_file(tag, run)
    except NoSuchModuleError as error:
        error.add_note(
            f"{file.parent} needs the code of its scenario {tag}: start where that can be imported, or name its "
            "directory in PYTHONPATH."
        )
        raise
    except UsageError as error:
        raise type(error)(f"{file}: {tag}: {error}") from error
    return cast(Scenario, checked(apply(Resolved(with_defaults(cls)), file_settings(values, str(file)))))
