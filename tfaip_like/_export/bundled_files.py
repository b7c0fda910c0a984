"""Files that are bundled with an export, which makes it relocatable.

These are all paths of its pipeline, the resources that the scenario declares, and files derived from the data (below
`resources/` of the run directory). Paths of samples are excluded: an export does not contain its data.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

from tfaip_like._export.layout import PIPELINE, require_file
from tfaip_like._utils.errors import UsageError, format_bytes
from tfaip_like._utils.remote_paths import RemotePath, local_path
from tfaip_like.params._base import ParamsBase, field_types, iter_params
from tfaip_like.params._resources import RESOURCES_DIR, PathValue, iter_paths, map_paths
from tfaip_like.params._tree import path_to_flag
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=ParamsBase)

MAX_FILES = 10_000
MAX_BYTES = 2**30
"""Limits for a bundled directory; a larger one is hardly needed for inference, and every export would copy it."""


def check_bundled_files(scenario: Scenario, pipeline: ParamsBase) -> None:
    """Check that all files that exports must contain can be copied.

    Raises:
        UsageError: For the first path that cannot be copied; names its flag.
    """
    flags = {_absolute(value.path): f"{path_to_flag(value.param_path)} {value.path}" for value in iter_paths(scenario)}
    checked = set()
    for value in _iter_bundled_paths(scenario, pipeline):
        source = _absolute(value.path)
        name = flags.get(source, f"{value.owner.__name__}.{value.param_path[-1]} {value.path}")
        if source in checked:
            continue
        checked.add(source)
        if source.is_dir():
            _check_directory(source, name, scenario.trainer.output_dir)
        elif not source.exists():
            raise UsageError(f"{name}: no such file or directory (required for inference and copied to every export)")
        elif not source.is_file():
            raise UsageError(f"{name}: neither a file nor a directory; cannot be copied to exports")
        elif not os.access(source, os.R_OK):
            raise UsageError(f"{name}: not readable (required for inference and copied to every export)")
    for name, text in _find_strings_naming_files(pipeline):
        logger.warning(
            "%s %r is a string that names a file. Exports copy only parameters of type Path; inference on another "
            "machine will not find it.",
            name,
            text,
        )


def copy_bundled_files(folder: Path, scenario: Scenario, pipeline: P) -> tuple[Scenario, P]:
    """Copy the bundled files of an export into its `resources/`; files with the same name are numbered.

    Args:
        folder: Export directory.
        scenario: Scenario whose resources are copied.
        pipeline: Pipeline all of whose paths are copied.

    Returns:
        The scenario and the pipeline with copied paths relative to the export directory.
    """
    copies: dict[Path, Path] = {}
    for value in _iter_bundled_paths(scenario, pipeline):
        source = _absolute(value.path)
        if source not in copies:
            target = _make_unique_name(source, copies.values())
            _copy(source, folder / target)
            copies[source] = target

    def copied(value: PathValue) -> Path:
        return copies.get(_absolute(value.path), value.path)

    return map_paths(scenario, copied), map_paths(pipeline, copied)


def bundled_file_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file in `resources/` of an export by its relative path."""
    files = (file for file in sorted((folder / RESOURCES_DIR).rglob("*")) if file.is_file())
    return {file.relative_to(folder / RESOURCES_DIR).as_posix(): file.stat().st_size for file in files}


def resolve_bundled_paths(tree: P, export: Path, name: str = PIPELINE, only_resources: bool = False) -> P:
    """Return a parameter tree of an export with absolute paths of the bundled files.

    Args:
        tree: Parameters as read from the export.
        export: Export directory.
        name: File that the tree was read from, for messages.
        only_resources: Keep other paths unchanged: those of samples, which are not bundled.

    Raises:
        UsageError: If a path is missing, or outside of the export.
    """

    def resolve(value: PathValue) -> Path:
        is_bundled = value.is_resource or value.path.parts[:1] == (RESOURCES_DIR,) or not only_resources
        if not is_bundled:
            return value.path
        path = export / value.path
        if not path.resolve().is_relative_to(export.resolve()):
            raise UsageError(
                f"{export / name}: {'.'.join(value.param_path)} {value.path}: outside of the export.\n"
                f"Copy it to {export / RESOURCES_DIR / value.path.name} and refer to it as "
                f"{RESOURCES_DIR}/{value.path.name}."
            )
        for file in _walk_files(path) if path.is_dir() else [path]:
            require_file(export, file.relative_to(export))
        return path

    return map_paths(tree, resolve)


def check_no_outside_paths(export: Path, tree: ParamsBase, received: ParamsBase) -> None:
    """Check that no path of a received export that is outside of it was kept in the parameters to use.

    Args:
        export: Export directory.
        tree: Parameters to use.
        received: Parameters as read from the export.

    Raises:
        UsageError: For the first such path.
    """
    outside = {
        value.path for value in iter_paths(received) if not value.path.resolve().is_relative_to(export.resolve())
    }
    for value in iter_paths(tree):
        if value.path in outside:
            raise UsageError(f"{export}: refers to {value.path}; an export may only refer to files inside it")


def read_bundled_files(tree: ParamsBase) -> list[tuple[str, bytes]]:
    """Return the relative path and the content of all files that a parameter tree refers to."""
    contents = []
    for value in iter_paths(tree):
        path = local_path(value.path)
        for file in _walk_files(path) if path.is_dir() else [path]:
            contents.append((str(file.relative_to(path.parent)), file.read_bytes()))
    return contents


def _iter_bundled_paths(scenario: Scenario, pipeline: ParamsBase) -> Iterator[PathValue]:
    yield from iter_paths(pipeline)
    run = scenario.trainer.output_dir
    derived = _absolute(run / RESOURCES_DIR) if run is not None else None
    for value in iter_paths(scenario):
        if value.is_resource or (derived is not None and _absolute(value.path).is_relative_to(derived)):
            yield value


def _absolute(path: Path) -> Path:
    # Does not follow links: a link keeps its own name in the export.
    return path if isinstance(path, RemotePath) else Path(os.path.abspath(path))


def _check_directory(source: Path, name: str, run: Path | None) -> None:
    if run is not None and run.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{name}: contains the run directory {run}; cannot be copied to exports")
    size = count = 0
    for file in _walk_files(local_path(source)):
        if file.is_dir() or not file.is_file():
            kind = "a link to a directory" if file.is_dir() else "neither a file nor a directory"
            raise UsageError(f"{name}: {file} is {kind}; cannot be copied to exports")
        size += file.stat().st_size
        count += 1
        if count > MAX_FILES or size > MAX_BYTES:
            raise UsageError(
                f"{name}: more than {MAX_FILES:,} files or {MAX_BYTES // 2**30} GiB; every export would contain a copy."
                "\nUse a directory with only the files that inference needs."
            )
    logger.info("exports will contain a copy of %s (%d files, %s)", source, count, format_bytes(size))


def _walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a directory; links to directories are yielded, not followed."""
    for parent, directories, files in os.walk(folder):
        directories.sort()
        links = [name for name in directories if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted([*files, *links]))


def _make_unique_name(source: Path, existing_names: Collection[Path]) -> Path:
    target, number = Path(RESOURCES_DIR, source.name), 1
    while target in existing_names:
        number += 1
        target = Path(RESOURCES_DIR, f"{source.stem}-{number}{source.suffix}")
    return target


def _copy(source: Path, target: Path) -> None:
    source = local_path(source)
    if not source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return
    target.mkdir(parents=True)
    for file in _walk_files(source):
        _copy(file, target / file.relative_to(source))


def _find_strings_naming_files(pipeline: ParamsBase) -> Iterator[tuple[str, str]]:
    for _, params in iter_params(pipeline):
        for name in field_types(type(params)):
            value = getattr(params, name)
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(text, str) and "\0" not in text and Path(text).suffix and os.path.isfile(text):
                    yield f"{type(params).__name__}.{name}", text
