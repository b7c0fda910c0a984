"""The lines of an author's code that an error is about."""

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
"""Layers and operations of Keras -> where they were called."""


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

    def __str__(self) -> str:
        """Return the place, and below it the line itself."""
        line = f", line {self.lineno}" if self.lineno else ""
        where = f"{self.filename}{line}{', in ' if self.name else ''}{self.name}"
        return f"{where}\n    {self.line}" if self.line else where


class CodeError(UsageError):
    """Mistake in the code of a scenario; commands show the line of its author first.

    Args:
        message: what is wrong and what to do.
        code: what the author wrote, most telling first: functions, methods, classes, objects, `attribute_frame(...)`.
            The line is that of the first one that is an author's; by default the one that was running.
    """

    def __init__(self, message: str, *code: object):
        super().__init__(message)
        attach_remote_frame(self, _first_definition_frame(code))


def innermost_user_frame(error: BaseException) -> Frame | None:
    """Return the innermost line of the user's own code that was running.

    It may have run in another process, see `attach_remote_frame`.

    Where none was, it is the line that a `CodeError` or `attribute_errors_to` names, or the one that called the layer
    which raised, see `record_call_site`; or that of the exception which this one follows from.
    """
    if (known := getattr(error, _FRAME_ATTRIBUTE, None)) is not None:
        return cast(Frame, known)
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if is_author_file(frame.filename)]
    if theirs:
        return Frame(theirs[-1].filename, theirs[-1].lineno or 0, theirs[-1].name, theirs[-1].line or "")
    for running, _ in traceback.walk_tb(error.__traceback__):
        with contextlib.suppress(Exception):  # what cannot be a key, or is only half made
            if (frame := _call_sites.get(running.f_locals.get("self"))) is not None:
                return frame
    return innermost_user_frame(error.__cause__) if error.__cause__ is not None else None


def format_user_error(error: BaseException) -> str:
    """Return what a mistake of the user says: for one in their code their line, then the reason, then its notes."""
    frame = innermost_user_frame(error) if isinstance(error, CodeError) else None
    return "\n".join(filter(None, [str(frame or ""), str(error), *getattr(error, "__notes__", [])]))


@contextlib.contextmanager
def attribute_errors_to(*code: object) -> Iterator[None]:
    """Name what an author wrote for an exception of the block that shows no line of theirs.

    For work on what their code returned: other libraries raise there while no code of the author runs.

    Args:
        code: see `CodeError`.
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
    """Return the line in which an author wrote something: of a function the last one that returns.

    Args:
        code: a function, method, property, class, object, or what `attribute_frame` returns.
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
    """Return `Class.method`, with the class of the object."""
    return f"{type(method.__self__).__name__}.{method.__name__}"


def function_frame(function: Any) -> Frame | None:
    """Return the line of an author in which a function begins."""
    code = inspect.unwrap(function).__code__
    if not is_author_file(code.co_filename):
        return None
    first, lines = code.co_firstlineno, linecache.getlines(code.co_filename)
    begin = next(
        (n for n in range(first, len(lines) + 1) if lines[n - 1].lstrip().startswith(("def ", "async "))), first
    )
    return make_frame(code.co_filename, begin, function.__qualname__)


def attribute_frame(owner: type, name: str) -> Frame | None:
    """Return the line in which an author gave an attribute of a class its value, or the method that makes it."""
    for cls in owner.__mro__:
        if name not in vars(cls) and name not in inspect.get_annotations(cls):
            continue
        value = vars(cls).get(name)
        if isinstance(value, (FunctionType, property, staticmethod, classmethod)):
            return definition_frame(value)
        if (found := class_attribute_frame(cls, name)) is not None:
            return found
    return definition_frame(owner)


def class_attribute_frame(cls: type, name: str) -> Frame | None:
    """Return the line in the body of an author's class that gives a name its value."""
    with contextlib.suppress(OSError, TypeError):
        file = inspect.getsourcefile(cls)
        if file is not None and is_author_file(file):
            lines, first = inspect.getsourcelines(cls)
            for number, line in enumerate(lines, first):
                if re.match(rf"\s+{name}\s*[:=]", line):
                    return make_frame(file, number, cls.__qualname__)
    return None


def _last_return(lines: Sequence[str]) -> int:
    """Return the number of the last `return` in the source of a function, of its `def` if there is none."""
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
    """Return the number of the line with `class` in the source of a class, which may begin with decorators."""
    return next((number for number, line in enumerate(lines, 1) if line.strip().startswith("class ")), 1)


def make_frame(file: str, line: int, name: str) -> Frame:
    """Return a line of a file, with the name of what it belongs to."""
    return Frame(file, line, name, linecache.getline(file, line).strip())


def attach_remote_frame(error: BaseException, frame: Frame | None) -> None:
    """Notes for `innermost_user_frame` where an exception of another process was raised."""
    setattr(error, _FRAME_ATTRIBUTE, frame)


def record_call_site(called: Any, description: str) -> None:
    """Note the user's line that is running as the one where an object was called, if that is the first time."""
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
