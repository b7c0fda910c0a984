"""Parameter trees as files: JSON written so that it can be read by a person, JSON or YAML read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from tfaip_like.errors import UsageError
from tfaip_like.files import write_text
from tfaip_like.params.base import Json, ParamsBase


def write_params(params: ParamsBase, path: Path) -> None:
    """Writes a whole tree as JSON; a file of that name is replaced at once or not at all."""
    write_text(path, json.dumps(params.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read_values(path: Path) -> dict[str, Json]:
    """The object in a JSON or YAML file (by its ending: .yaml, .yml).

    Raises:
        UsageError: when it cannot be read; it names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UsageError(f"{path}: cannot be read: {reason}") from error
    values = _read_yaml(text, path) if path.suffix in (".yaml", ".yml") else _read_json(text, path)
    if not isinstance(values, dict):
        raise UsageError(f'{path}: must hold an object with parameters, such as {{"trainer": {{"epochs": 3}}}}')
    return values


def _read_json(text: str, path: Path) -> Json:
    try:
        return cast(Json, json.loads(text, object_pairs_hook=_without_repetition))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from error
    except _RepeatedError as error:
        raise UsageError(f"{path}: {error} is given twice in one object") from error


class _RepeatedError(ValueError):
    pass


def _without_repetition(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedError(repr(next(name for name in names if names.count(name) > 1)))
    return values


def _read_yaml(text: str, path: Path) -> Json:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, Json]:
            own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            keys = [self.construct_object(key, deep=True) for key in own]
            for index, key in enumerate(keys):
                line = own[index].start_mark.line + 1
                if key in keys[:index]:
                    raise UsageError(f"{path}, line {line}: {key!r} is given twice")
                if not isinstance(key, str):
                    raise UsageError(f"{path}, line {line}: {key!r} is no name; quote it if it is meant as one")
            return cast("dict[object, Json]", super().construct_mapping(node, deep))

    try:
        return cast(Json, yaml.load(text, Loader))  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
