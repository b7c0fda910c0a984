"""Files that belong to a tree of parameters: they are copied with it, and found again next to it.

A class names parameters that hold their paths in `iter_resources`. What the pipeline of an export uses belongs to it
in any case, see `_export.bundled_files`. In a file of parameters, a path that lies below the folder of that file is
written relative to it, so that the folder can be moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like.params._base import ParamPath, ParamsBase, field_types
from tfaip_like.params._tree import path_to_flag

P = TypeVar("P", bound=ParamsBase)

RESOURCES_DIR = "resources"
"""The folder of a run or an export in which such files lie."""


@dataclass(frozen=True)
class PathValue:
    """A path somewhere in a tree: in a parameter, or in a list or dictionary that is one."""

    param_path: ParamPath
    """Of the parameter."""
    owner: type[ParamsBase]
    """The class that has it."""
    path: Path

    @property
    def is_resource(self) -> bool:
        """Return whether the class says that the file belongs to it."""
        return self.param_path[-1] in getattr(self.owner, "resources", ())


def iter_paths(tree: ParamsBase, param_path: ParamPath = ()) -> Iterator[PathValue]:
    """Yield every path of a tree."""

    def collect(found: PathValue) -> Path:
        values.append(found)
        return found.path

    values: list[PathValue] = []
    map_paths(tree, collect)
    yield from values


def map_paths(tree: P, change: Callable[[PathValue], Path]) -> P:
    """Return the tree with other paths."""
    return _map_params_paths(tree, (), change)  # type: ignore[no-any-return]


def iter_resources(tree: ParamsBase) -> Iterator[tuple[ParamPath, Path]]:
    """Yield the parameter and the path of each file that a class of the tree names as its resource."""
    for value in iter_paths(tree):
        if value.is_resource:
            yield value.param_path, value.path


def check_resources(tree: ParamsBase) -> None:
    """Raise `UsageError` for the first resource that is not there."""
    for param_path, path in iter_resources(tree):
        if not path.exists():
            raise UsageError(f"{path_to_flag(param_path)} {path}: no such file")


def resolve_resource_paths(tree: P, folder: Path) -> P:
    """Return the tree with its relative paths below a folder, where they belong there and lie there."""

    def below(value: PathValue) -> Path:
        belongs = value.is_resource or value.path.parts[:1] == (RESOURCES_DIR,)
        return folder / value.path if belongs and (folder / value.path).exists() else value.path

    return map_paths(tree, below)


def make_paths_relative(tree: P, folder: Path) -> P:
    """Return the tree with the paths of files that belong to a folder relative to it.

    These are resources below it, and all paths below its `resources/`. Other resources become absolute.
    """
    whole = folder.absolute()

    def relative(value: PathValue) -> Path:
        absolute = value.path.absolute()
        if absolute.is_relative_to(whole / RESOURCES_DIR) or (value.is_resource and whole in absolute.parents):
            return absolute.relative_to(whole)
        return absolute if value.is_resource else value.path

    return map_paths(tree, relative)


def _map_params_paths(value: Any, param_path: ParamPath, change: Callable[[PathValue], Path]) -> Any:
    """Return a tree with other paths; itself, where there is none."""
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
    """Return a value with other paths.

    Args:
        param_path: of the parameter.
        part: where the value lies within that of the parameter.
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
        return type(value)(new) if any(one is not two for one, two in zip(new, value, strict=True)) else value
    return value
