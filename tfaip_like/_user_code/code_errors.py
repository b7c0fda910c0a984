"""Attribution of errors to lines of the user's code."""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import re
import sys
import textwrap
import traceback
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

from tfaip_like._utils.code_origin import is_author_file
from tfaip_like._utils.errors import UsageError

_FRAME_ATTRIBUTE = "_tfaip_like_frame"
_call_sites: weakref.WeakKeyDictionary[Any, Frame] = weakref.WeakKeyDictionary()
"""Where Keras layers and operations were called first."""


@dataclass(frozen=True)
class Frame:
    """Line of code, as in a traceback."""

    filename: str
    lineno: int
    name: str
    """Name of the function or class."""
    line: str
    """Source text."""
    of: str = ""
    """Layer that was called in this line, if the line itself is not in the traceback."""

    def __str__(self) -> str:
        """Return file, line number and function, and the source text on a second line."""
        line = f", line {self.lineno}" if self.lineno else ""
        where = f"{self.filename}{line}{', in ' if self.name else ''}{self.name}"
        return f"{where}\n    {self.line}" if self.line else where


class CodeError(UsageError):
    """Error in the code of a scenario; commands print the user's line first.

    Args:
        message: what is wrong and what to do.
        code: the user's code at fault, most specific first: functions, methods, classes, objects or
            `attribute_frame(...)`. The line of the first one defined in user code is shown; by default the innermost
            user line of the traceback.
    """

    def __init__(self, message: str, *code: object):
        super().__init__(message)
        attach_remote_frame(self, _first_definition_frame(code))


def innermost_user_frame(error: BaseException) -> Frame | None:
    """Return the innermost line of user code that an error comes from, None if there is none.

    In this order: the line attached by `attach_remote_frame` (another process), `CodeError` or `attribute_errors_to`;
    the innermost user line of the traceback; the line that called the failing layer, see `record_call_site`; the line
    of the error's cause.
    """
    if (attached := getattr(error, _FRAME_ATTRIBUTE, None)) is not None:
        return cast(Frame, attached)
    user_frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_author_file(frame.filename)]
    if user_frames:
        innermost = user_frames[-1]
        return Frame(innermost.filename, innermost.lineno or 0, innermost.name, innermost.line or "")
    for running, _ in traceback.walk_tb(error.__traceback__):
        with contextlib.suppress(Exception):  # unhashable, or partly initialized
            if (frame := _call_sites.get(running.f_locals.get("self"))) is not None:
                return frame
    return innermost_user_frame(error.__cause__) if error.__cause__ is not None else None


def format_user_error(error: BaseException) -> str:
    """Return the message of a user error: the line for an error in their code, the reason, and the notes."""
    frame = innermost_user_frame(error) if isinstance(error, CodeError) else None
    return "\n".join(filter(None, [str(frame or ""), str(error), *getattr(error, "__notes__", [])]))


@contextlib.contextmanager
def attribute_errors_to(*code: object) -> Iterator[None]:
    """Attribute exceptions of the block to the user's code if their traceback contains no user line.

    For processing of values that user code returned, where libraries raise while no user code runs.

    Args:
        code: the user's code at fault, see `CodeError`.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if innermost_user_frame(error) is None:
            attach_remote_frame(error, _first_definition_frame(code))
        raise


def _first_definition_frame(code: Iterable[object]) -> Frame | None:
    return next(filter(None, map(definition_frame, code)), None)


def definition_frame(code: object) -> Frame | None:
    """Return the line that defines a piece of user code, for a function its last `return`; None if not user code.

    Args:
        code: function, method, property, class, object, or the result of `attribute_frame`.
    """
    if isinstance(code, Frame):
        return code
    if isinstance(code, property):
        code = code.fget
    code = inspect.unwrap(getattr(code, "__func__", code))  # type: ignore[arg-type]
    if not isinstance(code, (FunctionType, type)):
        code = type(code)
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        file = inspect.getsourcefile(code)
        if file is None or not is_author_file(file):
            return None
        lines, first = inspect.getsourcelines(code)
        line = _last_return(lines) if isinstance(code, FunctionType) else _class_statement_line(lines)
        return make_frame(file, first + line - 1, code.__qualname__)
    return None


def qualified_method_name(method: Any) -> str:
    """Return `Class.method` of a bound method, with the class of its object."""
    return f"{type(method.__self__).__name__}.{method.__name__}"


def function_frame(function: Any) -> Frame | None:
    """Return the `def` line of a function, None if it is not user code."""
    code = inspect.unwrap(function).__code__
    if not is_author_file(code.co_filename):
        return None
    first, lines = code.co_firstlineno, linecache.getlines(code.co_filename)
    begin = next(
        (n for n in range(first, len(lines) + 1) if lines[n - 1].lstrip().startswith(("def ", "async "))), first
    )
    return make_frame(code.co_filename, begin, function.__qualname__)


def attribute_frame(owner: type, name: str) -> Frame | None:
    """Return the line in user code that sets an attribute of a class, or defines the method of that name."""
    for cls in owner.__mro__:
        if name not in vars(cls) and name not in inspect.get_annotations(cls):
            continue
        value = vars(cls).get(name)
        if isinstance(value, (FunctionType, property, staticmethod, classmethod)):
            return definition_frame(value)
        if (frame := class_attribute_frame(cls, name)) is not None:
            return frame
    return definition_frame(owner)


def class_attribute_frame(cls: type, name: str) -> Frame | None:
    """Return the line in the body of a user's class that assigns a name."""
    with contextlib.suppress(OSError, TypeError):
        file = inspect.getsourcefile(cls)
        if file is not None and is_author_file(file):
            lines, first = inspect.getsourcelines(cls)
            for number, line in enumerate(lines, first):
                if re.match(rf"\s+{name}\s*[:=]", line):
                    return make_frame(file, number, cls.__qualname__)
    return None


def _last_return(lines: Sequence[str]) -> int:
    """Return the line number of the last `return` or `yield` in the source of a function, else of its `def`."""
    function = ast.parse(textwrap.dedent("".join(lines))).body[0]
    numbers = [getattr(function, "lineno", 1)]
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Return, ast.Yield)):
            numbers.append(node.lineno)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))
    return max(numbers)


def _class_statement_line(lines: Sequence[str]) -> int:
    """Return the line number of the `class` statement in the source of a class, after its decorators."""
    return next((number for number, line in enumerate(lines, 1) if line.strip().startswith("class ")), 1)


def make_frame(file: str, line: int, name: str) -> Frame:
    """Return the frame of a line.

    Args:
        file: path of the source file.
        line: line number, from 1.
        name: name of the function or class that contains it.
    """
    return Frame(file, line, name, linecache.getline(file, line).strip())


def attach_remote_frame(error: BaseException, frame: Frame | None) -> None:
    """Attach the frame in which an exception of another process was raised, for `innermost_user_frame`."""
    setattr(error, _FRAME_ATTRIBUTE, frame)


def call_site(called: Any) -> Frame | None:
    """Return the line in user code that called a layer or operation first; None if none was recorded."""
    return _call_sites.get(called)


def record_call_site(called: Any, description: str) -> None:
    """Record the current user line as the call site of a layer or operation, unless it has one.

    Args:
        called: layer or operation.
        description: its description in messages.
    """
    if called in _call_sites:
        return
    running = sys._getframe(1)
    while running is not None:
        code = running.f_code
        if is_author_file(code.co_filename):
            line = linecache.getline(code.co_filename, running.f_lineno).strip()
            _call_sites[called] = Frame(code.co_filename, running.f_lineno, code.co_name, line, description)
            return
        running = running.f_back  # type: ignore[assignment]
