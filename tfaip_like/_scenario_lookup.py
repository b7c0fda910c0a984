"""Lookup of a scenario class by module, class name or path."""

from __future__ import annotations

import difflib
import functools
import logging
import os
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._user_code.importing import NoSuchModuleError, import_user_module, make_importable
from tfaip_like._user_code.trust import (
    TRUST_FLAG,
    guarded_imports,
    is_directory_trusted,
    is_import_allowed,
    package_root,
)
from tfaip_like._utils.code_origin import imported_user_files
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.json_files import Json, short_json
from tfaip_like.params._base import CLASS_KEY
from tfaip_like.params._class_source import check_class_in_source, find_module
from tfaip_like.params._variants import is_abstract
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

SCENARIO_FILE = "scenario.py"


def find_scenario(name: str) -> type[Scenario]:
    """Import the scenario class that `name` refers to.

    Makes the current directory importable.

    Args:
        name: `pkg.module:Class`, `pkg.module` if it defines one scenario, `pkg` for its module `scenario`, or the path
            of a file or directory.

    Raises:
        UsageError: if there is no such scenario or more than one, or its code cannot be imported.
    """
    make_importable(Path.cwd())
    module_name, _, class_name = name.partition(":")
    path = _resolve_path(module_name)
    module = _import_file(path) if path else _import_module(module_name)
    return _find_scenario_class(module, class_name) if class_name else _find_single_scenario(module)


def import_scenario_class(tag: str, run: OutputDir) -> type[Scenario]:
    """Import the scenario class that a file of a run names as `module:Class`.

    Its code is imported under the rule of `tfaip_like._user_code.trust`.

    Args:
        tag: `module:Class`.
        run: run directory that the file belongs to; the code it was trained with is made importable.

    Raises:
        UsageError: if the code is missing, cannot be imported, or is not trusted.
    """
    untrusted = make_run_code_importable(run)
    make_importable(Path.cwd())
    module_name, _, class_name = tag.partition(":")
    try:
        check_class_in_source(tag)
        with guarded_imports():
            module = import_user_module(module_name)
    except NoSuchModuleError as error:
        missing = NoSuchModuleError(f"{error} in {Path.cwd()} or on the Python path")
        if untrusted is not None:
            missing.add_note(
                f"It was trained with {untrusted}, which is not recorded as trusted: run the command in its directory, "
                f"or add {TRUST_FLAG}."
            )
        raise missing from error
    warn_code_mismatch(run)
    return _find_scenario_class(module, class_name)


def read_scenario_tag(values: Mapping[str, Json], file: str | Path) -> str:
    """Return the scenario class that the parameters in a file name, as `module:Class`.

    Args:
        values: content of the file.
        file: its path, for messages.

    Raises:
        UsageError: if the class is missing or not of the form `module:Class`.
    """
    tag = values.get(CLASS_KEY)
    if not isinstance(tag, str) or not tag.partition(":")[2]:
        actual = "nothing" if CLASS_KEY not in values else short_json(tag)
        raise UsageError(f"{file}: {CLASS_KEY}: expected the scenario as module:Class, got {actual}")
    return tag


def make_run_code_importable(run: OutputDir) -> Path | None:
    """Make the code that a run was trained with importable, if it is trusted.

    This is the copy in its batch, which takes precedence over other code of the same name, or else the directory of
    its scenario file.

    Returns:
        The path of the code if it is not trusted, else None.
    """
    if (code := run.batch_code_dir()) is not None:
        if not is_directory_trusted(code):
            return code
        if sys.path[0] != str(code):
            sys.path.insert(0, str(code))
        return None
    source = Run(run).info.get("scenario_file")
    if not isinstance(source, str):
        return None
    file = Path(source)
    if not is_import_allowed(file):
        return file
    make_importable(package_root(file))
    return None


def warn_code_mismatch(run: OutputDir) -> None:
    """Warn about imported modules that differ from their copies in the batch of a run."""
    code = run.batch_code_dir()
    if code is None:
        return
    different = []
    for file in map(Path.resolve, imported_user_files()):
        copy = code / file.relative_to(package_root(file))
        if copy.is_file() and copy.resolve() != file and copy.read_bytes() != file.read_bytes():
            different.append(str(file))
    if different:
        reason = "" if is_directory_trusted(code) else f", which is not trusted ({TRUST_FLAG} uses it)"
        _warn(
            f"{run.path}: code has changed since the batch was generated: using {truncate_list(different)} instead of "
            f"the copy in {code}{reason}"
        )


@functools.cache  # commands look a scenario up more than once
def _warn(message: str) -> None:
    logger.warning("%s", message)


def _resolve_path(name: str) -> Path | None:
    """Return the file that `name` refers to; None if it is a module name.

    Raises:
        UsageError: if it is a path without a scenario.
    """
    path = Path(name)
    if path.is_dir() and (path / SCENARIO_FILE).is_file():
        return path / SCENARIO_FILE
    if path.is_dir() and (path / "__init__.py").is_file() and (os.sep in name or "." not in name):
        return path / "__init__.py"
    if path.is_file() and path.suffix == ".py":
        return path
    if os.sep in name or name.endswith(".py"):
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        reason = f"no {SCENARIO_FILE} in this directory" if path.is_dir() else "no such file or directory"
        raise UsageError(f"{name}: {reason}")
    return None


def _import_file(path: Path) -> ModuleType:
    """Import a file under its qualified module name, by which other processes import it again."""
    path = path.resolve()
    root = package_root(path)
    parts = path.relative_to(root).with_suffix("").parts
    module_name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    make_importable(root)
    module = _import_module(module_name)
    imported = Path(getattr(module, "__file__", None) or "").resolve()
    if imported != path:
        raise UsageError(f"{path}: module name {module_name!r} is already used by {imported}; rename your file")
    return module


def _import_module(name: str) -> ModuleType:
    try:
        module = import_user_module(name)
    except NoSuchModuleError as error:
        raise UsageError(f"{error} in {Path.cwd()} or on the Python path{_suggest_module(name)}") from error
    if hasattr(module, "__path__") and not _find_scenarios(module) and _has_submodule(module, "scenario"):
        return import_user_module(f"{name}.scenario")
    return module


def _has_submodule(package: ModuleType, name: str) -> bool:
    return any(module.name == name for module in pkgutil.iter_modules(package.__path__))


def _suggest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    package = find_module(parent) if parent else None
    places = list(package.submodule_search_locations or []) if package else [str(Path.cwd())]
    siblings = [module.name for module in pkgutil.iter_modules(places)]
    near = difflib.get_close_matches(last, siblings, n=1)
    prefix = f"{parent}." if parent else ""
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _find_scenarios(module: ModuleType) -> dict[str, type[Scenario]]:
    """Return the concrete scenarios that a module defines, not those it imports."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Scenario)
        and value.__module__ == module.__name__
        and not is_abstract(value)
    }


def _find_single_scenario(module: ModuleType) -> type[Scenario]:
    scenarios = _find_scenarios(module)
    if len(scenarios) == 1:
        return next(iter(scenarios.values()))
    if not scenarios:
        defined = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        classes = [value for value in defined if isinstance(value, type)][-1:]
        hint = f"; its last class, {classes[0].__name__}, extends {classes[0].__mro__[1].__name__}" if classes else ""
        raise CodeError(
            f"{module.__name__} defines no scenario (a class that extends tfaip_like.Scenario){hint}", *classes
        )
    names = " or ".join(f"{module.__name__}:{name}" for name in scenarios)
    raise UsageError(f"{module.__name__} defines {len(scenarios)} scenarios; choose one: {names}")


def _find_scenario_class(module: ModuleType, name: str) -> type[Scenario]:
    member = getattr(module, name, None)
    if isinstance(member, type) and issubclass(member, Scenario):
        return member
    if member is not None:
        raise UsageError(f"{module.__name__}:{name} is not a Scenario")
    available = ", ".join(_find_scenarios(module)) or "none"
    raise UsageError(f"{module.__name__} has no scenario {name!r} (available: {available})")
