"""Finding a scenario by what a person types: a module, a class in it, or a path."""

from __future__ import annotations

import difflib
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from tfaip_like.errors import UsageError
from tfaip_like.params.variants import is_abstract
from tfaip_like.scenario import Scenario
from tfaip_like.user_code import NoSuchModuleError, import_module

SCENARIO_FILE = "scenario.py"


def find_scenario(name: str) -> type[Scenario]:
    """The scenario called `name`.

    `pkg.module:Class`, `pkg.module` with one scenario in it, `pkg` for its module `scenario`, or the
    path of a file or folder. The current folder is importable.

    Raises:
        UsageError: when there is none or more than one, or its code cannot be imported.
    """
    make_importable(Path.cwd())
    module_name, _, class_name = name.partition(":")
    path = _as_path(module_name)
    module = _import_file(path) if path else _import_module(module_name)
    return _class_in(module, class_name) if class_name else _only_scenario_in(module)


def make_importable(folder: Path) -> None:
    """Adds a folder to the places that modules are imported from.

    At their end: a file of the user called `random.py` must not replace Python's own.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def package_root(file: Path) -> Path:
    """The folder from which the module in a file is imported."""
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return root


def _as_path(name: str) -> Path | None:
    """The file that `name` means, if it is a path and not a module."""
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
        what = f"a folder without {SCENARIO_FILE}" if path.is_dir() else "no such file"
        raise UsageError(f"{name}: {what}")
    return None


def _import_file(path: Path) -> ModuleType:
    """Imports a file under the name it has in its package, so that it is found again by that name."""
    path = path.resolve()
    root = package_root(path)
    parts = path.relative_to(root).with_suffix("").parts
    module_name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    make_importable(root)
    module = _import_module(module_name)
    found = Path(getattr(module, "__file__", None) or "").resolve()
    if found != path:
        raise UsageError(f"{path}: another module is called {module_name!r} ({found}); rename your file")
    return module


def _import_module(name: str) -> ModuleType:
    try:
        module = import_module(name)
    except NoSuchModuleError as error:
        raise UsageError(f"{error} (from {Path.cwd()}){_nearest_module(name)}") from error
    if hasattr(module, "__path__") and not _scenarios_in(module) and _has_submodule(module, "scenario"):
        return import_module(f"{name}.scenario")
    return module


def _has_submodule(package: ModuleType, name: str) -> bool:
    return any(module.name == name for module in pkgutil.iter_modules(package.__path__))


def _nearest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        places = list(import_module(parent).__path__) if parent else [str(Path.cwd())]
    except (UsageError, AttributeError):
        return ""
    siblings = [module.name for module in pkgutil.iter_modules(places)]
    near = difflib.get_close_matches(last, siblings, n=1)
    prefix = f"{parent}." if parent else ""
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _scenarios_in(module: ModuleType) -> dict[str, type[Scenario]]:
    """The scenarios that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Scenario)
        and value.__module__ == module.__name__
        and not is_abstract(value)
    }


def _only_scenario_in(module: ModuleType) -> type[Scenario]:
    found = _scenarios_in(module)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise UsageError(f"{module.__name__} has no scenario in it: a class that extends tfaip_like.Scenario")
    names = " or ".join(f"{module.__name__}:{name}" for name in found)
    raise UsageError(f"{module.__name__} has {len(found)} scenarios; say which: {names}")


def _class_in(module: ModuleType, name: str) -> type[Scenario]:
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Scenario):
        return found
    if found is not None:
        raise UsageError(f"{module.__name__}:{name} is not a Scenario")
    has = ", ".join(_scenarios_in(module)) or "none"
    raise UsageError(f"{module.__name__} has no scenario called {name!r} (it has: {has})")
