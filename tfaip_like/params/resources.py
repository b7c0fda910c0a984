"""Files that belong to a tree of parameters: they are copied with it, and found again beside it.

A class names the parameters that hold their paths in `resources`. In a file of parameters, a path that
lies below the folder of that file is written relative to it, so that the folder can be moved.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tfaip_like.errors import UsageError
from tfaip_like.params.base import ParamsBase, Place, field_types, nested
from tfaip_like.params.tree import flag_of

P = TypeVar("P", bound=ParamsBase)

FOLDER = "resources"


def resources(tree: ParamsBase) -> Iterator[tuple[Place, Path]]:
    """The place and path of each file that belongs to a tree."""
    for place, params in nested(tree):
        for name in getattr(type(params), "resources", ()):
            value = getattr(params, name)
            for path in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(path, Path):
                    yield (*place, name), path


def check_resources(tree: ParamsBase) -> None:
    """Raises `UsageError` for the first file that is not there."""
    for place, path in resources(tree):
        if not path.is_file():
            raise UsageError(f"{flag_of(place)} {path}: no such file")


def with_resources(tree: P, change: Callable[[Path], Path]) -> P:
    """The tree with other paths for its files."""
    return _changed(tree, change)  # type: ignore[no-any-return]


def anchored(tree: P, folder: Path) -> P:
    """The tree with its relative paths below a folder, where they lie there."""
    return with_resources(tree, lambda path: folder / path if (folder / path).exists() else path)


def relative_to(tree: P, folder: Path) -> P:
    """The tree with the paths of files below a folder relative to it, the others absolute."""
    whole = folder.absolute()

    def relative(path: Path) -> Path:
        absolute = path.absolute()
        return absolute.relative_to(whole) if whole in absolute.parents else absolute

    return with_resources(tree, relative)


def copied(folder: Path, *trees: ParamsBase) -> list[ParamsBase]:
    """Copies the files of trees into `resources/` of a folder; the trees with their paths relative to the folder.

    Files of one name get a number.
    """
    copies: dict[Path, Path] = {}
    for _, path in (found for tree in trees for found in resources(tree)):
        source = path.absolute()
        if source not in copies:
            (folder / FOLDER).mkdir(exist_ok=True)
            target = Path(FOLDER, path.name)
            number = 1
            while target in copies.values():
                number += 1
                target = Path(FOLDER, f"{path.stem}-{number}{path.suffix}")
            shutil.copyfile(source, folder / target)
            copies[source] = target
    return [with_resources(tree, lambda path: copies[path.absolute()]) for tree in trees]


def _changed(value: Any, change: Callable[[Path], Path]) -> Any:
    if isinstance(value, ParamsBase):
        changes = {}
        for name in field_types(type(value)):
            before = getattr(value, name)
            is_resource = name in getattr(type(value), "resources", ())
            after = _changed_paths(before, change) if is_resource else _changed(before, change)
            if after is not before:
                changes[name] = after
        return dataclasses.replace(value, **changes) if changes else value
    if isinstance(value, (list, tuple)) and any(isinstance(item, ParamsBase) for item in value):
        return type(value)(_changed(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    return value


def _changed_paths(value: Any, change: Callable[[Path], Path]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(change(path) for path in value)
    return change(value) if isinstance(value, Path) else value
