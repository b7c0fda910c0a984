"""Parameter files: writing of JSON, reading of JSON or YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import VERSION, FileFormat
from tfaip_like._utils.json_files import Json, read_json, short_json
from tfaip_like._utils.yaml_files import read_yaml
from tfaip_like.params._base import ParamsBase

PARAMS_FORMAT = FileFormat("parameter file", dict[str, Any], is_handwritten=True)
"""Format of parameter trees. Parameters that were renamed are found by their former names, see `Renamed`."""


def write_params(params: ParamsBase, path: Path) -> None:
    """Write a parameter tree as JSON, atomically."""
    PARAMS_FORMAT.write(path, params.to_dict())


def read_param_file(path: Path) -> dict[str, Json]:
    """Read the object in a YAML file (suffix .yaml or .yml) or a JSON file.

    Raises:
        UsageError: if the file cannot be read or holds no object; names the file and line.
    """
    if path.suffix in (".yaml", ".yml"):
        words = read_yaml(path).to_dict()  # all values are text
        version = words.get(VERSION)
        number = {VERSION: int(version)} if isinstance(version, str) and version.isdecimal() else {}
        return PARAMS_FORMAT.decode({**words, **number}, str(path))
    values = read_json(path)
    if not isinstance(values, dict):
        raise UsageError(
            f'{path}, line 1: expected an object with parameters, such as {{"trainer": {{"epochs": 3}}}}, '
            f"got {short_json(values)}"
        )
    return PARAMS_FORMAT.decode(values, str(path))
