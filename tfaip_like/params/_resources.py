"""Resource files referenced by parameters, which are copied into exports.

A class lists the parameters with resource paths in `Params.resources`. Files used by the pipeline of an export are
always copied, see `_export.bundled_files`. Paths below the directory of a parameter file are written relative to it,
so the directory can be moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.remote_paths import RemotePath
from tfaip_like.params._base import ParamPath, ParamsBase, field_types
from tfaip_like.params._tree import path_to_flag

P = TypeVar("P", bound=ParamsBase)

RESOURCES_DIR = "resources"
"""Directory of resource files in a run directory or export."""


@dataclass(frozen=True)
class PathValue:
    """File path in a parameter tree: the value of a parameter, or an item of a list or dictionary."""

    param_path: ParamPath
    """Tree path of the parameter."""
    owner: type[ParamsBase]
    """Class that declares the parameter."""
    path: Path

    @property
    def is_resource(self) -> bool:
        """Return whether the class lists the parameter as a resource."""
        return self.param_path[-1] in getattr(self.owner, "resources", ())


def iter_paths(tree: ParamsBase) -> Iterator[PathValue]:
    """Yield every file path of a tree."""

    def collect(value: PathValue) -> Path:
        values.append(value)
        return value.path

    values: list[PathValue] = []
    map_paths(tree, collect)
    yield from values


def map_paths(tree: P, change: Callable[[PathValue], Path]) -> P:
    """Return the tree with every file path replaced by the result of `change`."""
    return _map_params_paths(tree, (), change)  # type: ignore[no-any-return]


def iter_resources(tree: ParamsBase) -> Iterator[tuple[ParamPath, Path]]:
    """Yield the tree path and file path of each resource of the tree."""
    for value in iter_paths(tree):
        if value.is_resource:
            yield value.param_path, value.path


def check_resources(tree: ParamsBase) -> None:
    """Raise `UsageError` for the first resource file that does not exist."""
    for param_path, path in iter_resources(tree):
        try:
            exists = path.exists()
        except UsageError as error:  # at a URL
            raise UsageError(f"{path_to_flag(param_path)} {error}") from error
        if not exists:
            raise UsageError(f"{path_to_flag(param_path)} {path}: no such file or directory")


def resolve_resource_paths(tree: P, folder: Path) -> P:
    """Return the tree with relative resource paths resolved against a folder, for files that exist there."""

    def below(value: PathValue) -> Path:
        belongs = value.is_resource or value.path.parts[:1] == (RESOURCES_DIR,)
        if isinstance(value.path, RemotePath):  # absolute
            return value.path
        return folder / value.path if belongs and (folder / value.path).exists() else value.path

    return map_paths(tree, below)


def make_paths_relative(tree: P, folder: Path) -> P:
    """Return the tree with paths made relative to a folder: resources below it and all paths in its `resources/`.

    Other resource paths become absolute.
    """
    root = folder.absolute()

    def relative(value: PathValue) -> Path:
        absolute = value.path.absolute()
        if absolute.is_relative_to(root / RESOURCES_DIR) or (value.is_resource and root in absolute.parents):
            return absolute.relative_to(root)
        return absolute if value.is_resource else value.path

    return map_paths(tree, relative)


def _map_params_paths(value: Any, param_path: ParamPath, change: Callable[[PathValue], Path]) -> Any:
    """Return a tree with its file paths replaced; the same object if nothing changes."""
    changes = {
        name: after
        for name in field_types(type(value))
        if (after := _map_value_paths(before := getattr(value, name), type(value), (*param_path, name), (), change))
        is not before
    }
    return dataclasses.replace(value, **changes) if changes else value


def _map_value_paths(
    value: Any, owner: type[ParamsBase], param_path: ParamPath, part: ParamPath, change: Callable[[PathValue], Path]
) -> Any:
    """Return a value with its file paths replaced; the same object if nothing changes.

    Args:
        value: value of a parameter, or an item of it.
        owner: class of the parameter.
        param_path: tree path of the parameter.
        part: keys and indices from the parameter's value to `value`.
        change: returns the new path.
    """
    if isinstance(value, ParamsBase):
        return _map_params_paths(value, (*param_path, *part), change)
    if isinstance(value, Path):
        return change(PathValue(param_path, owner, value))
    if isinstance(value, dict):
        items = {
            key: _map_value_paths(item, owner, param_path, (*part, str(key)), change) for key, item in value.items()
        }
        return items if any(items[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple)):
        new = [
            _map_value_paths(item, owner, param_path, (*part, str(index)), change) for index, item in enumerate(value)
        ]
        return type(value)(new) if any(after is not before for after, before in zip(new, value, strict=True)) else value
    return value
