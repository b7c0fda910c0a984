"""Files that belong to a tree of parameters: they are copied with it, and found again next to it.

A class names parameters that hold their paths in `resources`. What the pipeline of an export uses belongs to it in any
case, see `_export.bundled_files`. In a file of parameters, a path that lies below the folder of that file is written
relative to it, so that the folder can be moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like.params._base import ParamsBase, Place, field_types
from tfaip_like.params._tree import flag_of

P = TypeVar("P", bound=ParamsBase)

FOLDER = "resources"
"""The folder of a run or an export in which such files lie."""


@dataclass(frozen=True)
class PathValue:
    """A path somewhere in a tree: in a parameter, or in a list or dictionary that is one."""

    place: Place
    """Of the parameter."""
    owner: type[ParamsBase]
    """The class that has it."""
    path: Path

    @property
    def is_resource(self) -> bool:
        """Return whether the class says that the file belongs to it."""
        return self.place[-1] in getattr(self.owner, "resources", ())


def paths(tree: ParamsBase, place: Place = ()) -> Iterator[PathValue]:
    """Yield every path of a tree."""

    def collect(found: PathValue) -> Path:
        values.append(found)
        return found.path

    values: list[PathValue] = []
    with_paths(tree, collect)
    yield from values


def with_paths(tree: P, change: Callable[[PathValue], Path]) -> P:
    """Return the tree with other paths."""
    return _changed(tree, (), change)  # type: ignore[no-any-return]


def resources(tree: ParamsBase) -> Iterator[tuple[Place, Path]]:
    """Yield the place and path of each file that a class of the tree names as its resource."""
    for value in paths(tree):
        if value.is_resource:
            yield value.place, value.path


def check_resources(tree: ParamsBase) -> None:
    """Raise `UsageError` for the first resource that is not there."""
    for place, path in resources(tree):
        if not path.exists():
            raise UsageError(f"{flag_of(place)} {path}: no such file")


def anchored(tree: P, folder: Path) -> P:
    """Return the tree with its relative paths below a folder, where they belong there and lie there."""

    def below(value: PathValue) -> Path:
        belongs = value.is_resource or value.path.parts[:1] == (FOLDER,)
        return folder / value.path if belongs and (folder / value.path).exists() else value.path

    return with_paths(tree, below)


def relative_to(tree: P, folder: Path) -> P:
    """Return the tree with the paths of files that belong to a folder relative to it.

    These are resources below it, and all paths below its `resources/`. Other resources become absolute.
    """
    whole = folder.absolute()

    def relative(value: PathValue) -> Path:
        absolute = value.path.absolute()
        if absolute.is_relative_to(whole / FOLDER) or (value.is_resource and whole in absolute.parents):
            return absolute.relative_to(whole)
        return absolute if value.is_resource else value.path

    return with_paths(tree, relative)


def _changed(value: Any, place: Place, change: Callable[[PathValue], Path]) -> Any:
    """Return a tree with other paths; itself, where there is none."""
    changes = {
        name: after
        for name in field_types(type(value))
        if (after := _changed_value(before := getattr(value, name), type(value), (*place, name), (), change))
        is not before
    }
    return dataclasses.replace(value, **changes) if changes else value


def _changed_value(
    value: Any, owner: type[ParamsBase], place: Place, part: Place, change: Callable[[PathValue], Path]
) -> Any:
    """Return a value with other paths.

    Args:
        place: of the parameter.
        part: where the value lies within that of the parameter.
    """
    if isinstance(value, ParamsBase):
        return _changed(value, (*place, *part), change)
    if isinstance(value, Path):
        return change(PathValue(place, owner, value))
    if isinstance(value, dict):
        items = {key: _changed_value(item, owner, place, (*part, str(key)), change) for key, item in value.items()}
        return items if any(items[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple)):
        new = [_changed_value(item, owner, place, (*part, str(index)), change) for index, item in enumerate(value)]
        return type(value)(new) if any(one is not two for one, two in zip(new, value, strict=True)) else value
    return value
