"""The user's own modules: importing them, and finding their lines in a traceback."""

from __future__ import annotations

import importlib
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from tfaip_like.errors import UsageError

PACKAGE = Path(__file__).parent
PYTHON = Path(os.__file__).parent
_REMOTE_FRAME = "_tfaip_like_frame"


class NoSuchModuleError(UsageError):
    """The module that was named does not exist (all else that can go wrong is another `UsageError`)."""


def import_module(name: str) -> ModuleType:
    """Imports a module of the user.

    Raises:
        NoSuchModuleError: when there is none of this name.
        UsageError: when its code cannot be imported; it names the user's file and line.
    """
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


def users_frame(error: BaseException) -> Frame | None:
    """The innermost line of the user's own code that was running; maybe in another process, see `came_from`."""
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    if (remote := getattr(error, _REMOTE_FRAME, None)) is not None:
        return cast(Frame, remote)
    return (
        Frame(theirs[-1].filename, theirs[-1].lineno or 0, theirs[-1].name, theirs[-1].line or "") if theirs else None
    )


def came_from(error: BaseException, frame: Frame | None) -> None:
    """Notes for `users_frame` where an exception of another process was raised."""
    setattr(error, _REMOTE_FRAME, frame)


def is_users(filename: str) -> bool:
    """Whether a file is neither this package, nor installed, nor part of Python."""
    path = Path(filename)
    ours = any(folder in path.parents for folder in (PACKAGE, PYTHON))
    return path.exists() and "site-packages" not in path.parts and not ours


def _place(error: Exception) -> str:
    frame = users_frame(error)
    return f"{frame.filename}, line {frame.lineno}" if frame else "a module that it imports"
