"""The files that an export takes with it, so that it predicts the same wherever it lies.

They are all paths of its pipeline, declared as resources or not, what the scenario declares, and what was learnt from
the data (below `resources/` of the run). Paths of samples are none of them: an export does not contain its data.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

from tfaip_like._export.layout import PIPELINE, require_file
from tfaip_like._utils.errors import UsageError
from tfaip_like.params._base import ParamsBase, field_types, iter_params
from tfaip_like.params._resources import RESOURCES_DIR, PathValue, iter_paths, map_paths
from tfaip_like.params._tree import path_to_flag
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=ParamsBase)

MAX_FILES = 10_000
MAX_BYTES = 2**30
"""Of one directory; a larger one is hardly what prediction needs, and every export would copy it."""


def check_bundled_files(scenario: Scenario, pipeline: ParamsBase) -> None:
    """Check that everything which exports must contain can be copied.

    Raises:
        UsageError: for the first path that cannot; it names its flag.
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
            raise UsageError(f"{name}: no such file or directory; predictions use it, so every export contains a copy")
        elif not source.is_file():
            raise UsageError(f"{name}: is neither a file nor a directory, so exports cannot contain a copy")
        elif not os.access(source, os.R_OK):
            raise UsageError(f"{name}: cannot be read; predictions use it, so every export contains a copy")
    for name, text in _find_strings_naming_files(pipeline):
        logger.warning(
            "%s %r is a text that names a file. Exports copy only parameters of type Path; predictions elsewhere will "
            "not find it.",
            name,
            text,
        )


def copy_bundled_files(folder: Path, scenario: Scenario, pipeline: P) -> tuple[Scenario, P]:
    """Copy what belongs to an export into its `resources/`; files of one name get a number.

    Returns:
        The scenario and the pipeline, with the paths of what was copied relative to the folder.
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
    """Return the size of each file in the `resources/` of an export, by its path below it."""
    files = (file for file in sorted((folder / RESOURCES_DIR).rglob("*")) if file.is_file())
    return {file.relative_to(folder / RESOURCES_DIR).as_posix(): file.stat().st_size for file in files}


def resolve_bundled_paths(tree: P, export: Path, name: str = PIPELINE, only_resources: bool = False) -> P:
    """Return a tree from an export with the paths of its files, all of which lie in the export.

    Args:
        name: the file that the tree was read from.
        only_resources: leave other paths as they are: those of samples, which an export does not contain.

    Raises:
        UsageError: for a path that leads out of the export, or to nothing.
    """

    def own(value: PathValue) -> Path:
        is_bundled = value.is_resource or value.path.parts[:1] == (RESOURCES_DIR,) or not only_resources
        if not is_bundled:
            return value.path
        path = export / value.path
        if not path.resolve().is_relative_to(export.resolve()):
            raise UsageError(
                f"{export / name}: {'.'.join(value.param_path)} {value.path}: lies outside of the export, it "
                "is not used.\n"
                f"Copy it to {export / RESOURCES_DIR / value.path.name} and write "
                f"{RESOURCES_DIR}/{value.path.name} there instead."
            )
        for file in _walk_files(path) if path.is_dir() else [path]:
            require_file(export, file.relative_to(export))
        return path

    return map_paths(tree, own)


def check_no_outside_paths(export: Path, tree: ParamsBase, received: ParamsBase) -> None:
    """Check that a tree uses no file that a received one names and that lies outside of its export.

    Raises:
        UsageError: for the first path that does.
    """
    outside = {
        value.path for value in iter_paths(received) if not value.path.resolve().is_relative_to(export.resolve())
    }
    for value in iter_paths(tree):
        if value.path in outside:
            raise UsageError(f"{export}: names {value.path}, which lies outside of the export and is not used")


def read_bundled_files(tree: ParamsBase) -> list[tuple[str, bytes]]:
    """Return the names and bytes of all files that a tree names."""
    found = []
    for value in iter_paths(tree):
        for file in _walk_files(value.path) if value.path.is_dir() else [value.path]:
            found.append((str(file.relative_to(value.path.parent)), file.read_bytes()))
    return found


def _iter_bundled_paths(scenario: Scenario, pipeline: ParamsBase) -> Iterator[PathValue]:
    yield from iter_paths(pipeline)
    run = scenario.trainer.output_dir
    learnt = _absolute(run / RESOURCES_DIR) if run is not None else None
    for value in iter_paths(scenario):
        if value.is_resource or (learnt is not None and _absolute(value.path).is_relative_to(learnt)):
            yield value


def _absolute(path: Path) -> Path:
    # Without following links: a file may be a link to one of another name, and is known by its own.
    return Path(os.path.abspath(path))


def _check_directory(source: Path, name: str, run: Path | None) -> None:
    if run is not None and run.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{name}: contains the run directory {run}, so exports cannot contain a copy")
    size = count = 0
    for file in _walk_files(source):
        if file.is_dir() or not file.is_file():
            kind = "a link to a directory" if file.is_dir() else "neither a file nor a directory"
            raise UsageError(f"{name}: {file} is {kind}, so exports cannot contain a copy")
        size += file.stat().st_size
        count += 1
        if count > MAX_FILES or size > MAX_BYTES:
            raise UsageError(
                f"{name}: predictions use it, so every export contains a copy, but it holds more than {MAX_FILES:,} "
                f"files or {MAX_BYTES // 2**30} GiB.\nUse a directory with only the files that prediction needs."
            )
    logger.info("exports contain a copy of %s (%d files, %.3g MB)", source, count, size / 1e6)


def _walk_files(folder: Path) -> Iterator[Path]:
    """Yield what lies in a directory and is none itself; a link to a directory is yielded and not followed."""
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
