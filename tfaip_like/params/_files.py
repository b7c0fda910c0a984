"""Parameter trees as files: JSON written so that it can be read by a person, JSON or YAML read."""

from __future__ import annotations

from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, read_json, short_json, write_json
from tfaip_like._utils.yaml_files import read_yaml
from tfaip_like.params._base import ParamsBase


def write_params(params: ParamsBase, path: Path) -> None:
    """Write a whole tree as JSON; a file of that name is replaced as a whole or stays as it was."""
    write_json(path, params.to_dict())


def read_param_file(path: Path) -> dict[str, Json]:
    """Return the object in a JSON or YAML file (by its ending: .yaml, .yml).

    Raises:
        UsageError: if it cannot be read; it names the file and the line.
    """
    if path.suffix in (".yaml", ".yml"):
        return read_yaml(path).to_dict()
    values = read_json(path)
    if not isinstance(values, dict):
        raise UsageError(
            f'{path}, line 1: expected an object with parameters, such as {{"trainer": {{"epochs": 3}}}}, '
            f"got {short_json(values)}"
        )
    return values
