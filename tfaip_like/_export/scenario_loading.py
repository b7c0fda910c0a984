"""Loading of the scenario of an export from its parameters and the scenario's code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import cast

from tfaip_like._export.bundled_files import resolve_bundled_paths
from tfaip_like._export.layout import PARAMS
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import import_scenario_class, read_scenario_tag
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.lazy_keras import BACKENDS, set_backend
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import default_instance
from tfaip_like.params._files import read_param_file
from tfaip_like.scenario import Scenario


def load_scenario(export: Path) -> Scenario:
    """Return the scenario of an export; its code is imported under the rules of `tfaip_like._user_code.trust`.

    Raises:
        UsageError: If its code cannot be imported, or does not match its parameters.
    """
    file = export / PARAMS
    if not file.is_file():
        raise UsageError(f"{export}: not an export directory (missing {PARAMS})")
    return resolve_bundled_paths(
        load_scenario_file(file, OutputDir(export.parent)), export, PARAMS, only_resources=True
    )


def load_scenario_file(file: Path, run: OutputDir) -> Scenario:
    """Return the scenario with the parameters of a file; its paths are not resolved.

    Args:
        file: JSON file with the parameters of a scenario.
        run: Run directory that the file belongs to.

    Raises:
        UsageError: If its code cannot be imported, or does not match its parameters.
    """
    values = read_param_file(file)
    tag = read_scenario_tag(values, file)
    device = values.get("device")
    backend = device.get("backend") if isinstance(device, dict) else None
    if isinstance(backend, str) and backend in BACKENDS:
        with suppress(UsageError):  # inference may work without the backend of the training
            set_backend(backend)
    try:
        cls = import_scenario_class(tag, run)
    except NoSuchModuleError as error:
        error.add_note(
            f"{file.parent} requires the code of scenario {tag}: run where it can be imported, or add its directory "
            "to PYTHONPATH."
        )
        raise
    except UsageError as error:
        raise type(error)(f"{file}: {tag}: {error}") from error
    return cast(
        Scenario,
        validate_resolved(apply_settings(ResolvedParams(default_instance(cls)), settings_from_file(values, str(file)))),
    )
