"""Classification of source files: this package, a library, or user code."""

from __future__ import annotations

import functools
import os
import sys
from os.path import exists
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent.parent
_NON_USER_PREFIXES = tuple(os.path.join(folder, "") for folder in (PACKAGE_DIR, Path(os.__file__).parent))
_author_packages: set[str] = set()
"""Packages that subclass our classes or were imported by name: scenario packages, not libraries they use."""


def register_author_package(module: str) -> None:
    """Register the package of a module as user code, even if it is installed in site-packages."""
    _author_packages.add(module.partition(".")[0])


def imported_user_files() -> list[Path]:
    """Return the files of the imported modules that are user code."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [Path(file) for file in files if file and is_user_file(file)]


def is_user_file(filename: str) -> bool:
    """Return whether a file is not part of this package, an installed package, or Python."""
    return (
        not filename.startswith(_NON_USER_PREFIXES)
        and f"{os.sep}site-packages{os.sep}" not in filename
        and exists(filename)
    )


def is_author_file(filename: str) -> bool:
    """Return whether a file is user code or belongs to an installed scenario package."""
    return _is_author_file(filename, frozenset(_author_packages))


@functools.cache
def _is_author_file(filename: str, authors: frozenset[str]) -> bool:
    if is_user_file(filename):
        return True
    path = Path(filename)
    if PACKAGE_DIR in path.parents or "site-packages" not in path.parts:
        return False
    return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py") in authors
