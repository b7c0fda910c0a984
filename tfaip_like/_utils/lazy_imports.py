"""Imports on first use, which parsing and `--help` need not wait for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Proxy that imports a module on the first access to an attribute.

    Example:
        >>> math = LazyModule("math")
        >>> math.sqrt(9.0)
        3.0
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # accessed by inspect, pickle and doctest on every module
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def import_on_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that imports some of its public names on first use (PEP 562).

    Args:
        package: name of the package.
        modules: module of each name that is imported on first use.

    Example:
        >>> get_attribute = import_on_use("shapes", {"sqrt": "math"})
        >>> get_attribute("sqrt")(9.0)
        3.0
    """

    def get_attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get_attribute
