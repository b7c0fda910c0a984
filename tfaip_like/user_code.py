"""The user's own modules: importing them, and finding their lines in a traceback."""

from __future__ import annotations

import contextlib
import functools
import importlib
import linecache
import os
import sys
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tfaip_like.errors import UsageError

PACKAGE = Path(__file__).parent
PYTHON = Path(os.__file__).parent
_REMOTE_FRAME = "_tfaip_like_frame"
_authors: set[str] = set()
"""Packages that subclass our classes or were imported by name: of authors of scenarios, not libraries they use."""
_lines: weakref.WeakKeyDictionary[Any, Frame] = weakref.WeakKeyDictionary()
"""Layers and operations of Keras -> where they were called."""


class NoSuchModuleError(UsageError):
    """The module that was named does not exist (all else that can go wrong is another `UsageError`)."""


def import_module(name: str) -> ModuleType:
    """Imports a module of the user.

    Raises:
        NoSuchModuleError: when there is none of this name.
        UsageError: when its code cannot be imported; it names the user's file and line.
    """
    note_author(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise NoSuchModuleError(f"there is no module {name!r}") from error
        raise UsageError(f"{_place(error)}: {error.name!r} is not installed; pip install it first") from error
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
    except UsageError:
        raise
    except SystemExit as error:
        raise UsageError(f"{name}: the module ends the program when it is imported (sys.exit)") from error
    except Exception as error:
        raise UsageError(f"{_place(error)}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Frame:
    """A line of code that was running."""

    filename: str
    lineno: int
    name: str
    """The function."""
    line: str
    of: str = ""
    """The layer that was called there, where the line itself is not in the traceback."""


def note_author(module: str) -> None:
    """Note that the package of a module is by an author of scenarios, wherever it is installed."""
    _authors.add(module.partition(".")[0])


def users_frame(error: BaseException) -> Frame | None:
    """The innermost line of the user's own code that was running; maybe in another process, see `came_from`.

    Where none was, the line that called the layer which raised, see `note_line`.
    """
    if (remote := getattr(error, _REMOTE_FRAME, None)) is not None:
        return cast(Frame, remote)
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if is_authors(frame.filename)]
    if theirs:
        return Frame(theirs[-1].filename, theirs[-1].lineno or 0, theirs[-1].name, theirs[-1].line or "")
    for running, _ in traceback.walk_tb(error.__traceback__):
        with contextlib.suppress(TypeError):  # what cannot be a key
            if (frame := _lines.get(running.f_locals.get("self"))) is not None:
                return frame
    return None


def note_line(called: Any, description: str) -> None:
    """Note the user's line that is running as the one where an object was called, if that is the first time."""
    if called in _lines:
        return
    running = sys._getframe(1)
    while running is not None:
        code = running.f_code
        if is_authors(code.co_filename):
            line = linecache.getline(code.co_filename, running.f_lineno).strip()
            _lines[called] = Frame(code.co_filename, running.f_lineno, code.co_name, line, description)
            return
        running = running.f_back  # type: ignore[assignment]


def users_files() -> list[Path]:
    """Return the files of the user's own modules that are imported."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [Path(file) for file in files if file and is_users(file)]


def came_from(error: BaseException, frame: Frame | None) -> None:
    """Notes for `users_frame` where an exception of another process was raised."""
    setattr(error, _REMOTE_FRAME, frame)


def is_users(filename: str) -> bool:
    """Whether a file is neither this package, nor installed, nor part of Python."""
    path = Path(filename)
    ours = any(folder in path.parents for folder in (PACKAGE, PYTHON))
    return path.exists() and "site-packages" not in path.parts and not ours


def is_authors(filename: str) -> bool:
    """Return whether a file is the user's or of an installed scenario: what its author can mend."""
    return _is_authors_of(filename, frozenset(_authors))


@functools.cache
def _is_authors_of(filename: str, authors: frozenset[str]) -> bool:
    if is_users(filename):
        return True
    path = Path(filename)
    if PACKAGE in path.parents or "site-packages" not in path.parts:
        return False
    return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py") in authors


def _place(error: Exception) -> str:
    frame = users_frame(error)
    return f"{frame.filename}, line {frame.lineno}" if frame else "a module that it imports"
