"""Import of the user's modules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from tfaip_like._user_code.code_errors import CodeError, Frame, format_user_error, innermost_user_frame
from tfaip_like._user_code.error_hints import describe_error
from tfaip_like._utils.code_origin import register_author_package
from tfaip_like._utils.errors import UsageError


class NoSuchModuleError(UsageError):
    """Error for a module that does not exist; all other import failures are a plain `UsageError`."""


def import_user_module(name: str) -> ModuleType:
    """Import a module of the user.

    Raises:
        NoSuchModuleError: if it does not exist.
        UsageError: if importing it fails; names the user's file and line.
    """
    register_author_package(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise NoSuchModuleError(f"no module named {name!r}") from error
        raise UsageError(f"{_error_location(error)}\n{error.name!r} is not installed; install it with pip") from error
    except SyntaxError as error:
        frame = Frame(error.filename or _module_file(name), error.lineno or 0, "", (error.text or "").strip())
        raise UsageError(f"{frame}\n{type(error).__name__}: {error.msg}") from error
    except CodeError as error:
        raise UsageError(format_user_error(error)) from error
    except UsageError:
        raise
    except SystemExit as error:
        raise UsageError(f"{_error_location(error)}\nthe module calls sys.exit when imported") from error
    except Exception as error:
        raise UsageError(f"{_error_location(error)}\n{describe_error(error)}") from error


def make_importable(folder: Path) -> None:
    """Append a folder to `sys.path`.

    At the end, because a user's file `random.py` must not shadow Python's module.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _module_file(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return (spec.origin if spec else None) or module


def _error_location(error: BaseException) -> str:
    return str(innermost_user_frame(error) or "an imported module")
