"""Checks of the methods and constants that a user's class overrides.

Without them, a misspelt hook, or a hook of another framework, would be ignored silently.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, get_args, get_origin, get_type_hints
from weakref import WeakSet

from tfaip_like._user_code.code_errors import CodeError, attribute_frame, class_attribute_frame, function_frame
from tfaip_like._utils.code_origin import is_author_file
from tfaip_like._utils.errors import with_article
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._values import decode_value, encode_value

PACKAGE = __name__.partition(".")[0]
MIN_SIMILARITY = 0.85
"""Minimum similarity (0 to 1) of two names at which one is taken for a misspelling of the other."""
_FOREIGN_PARAMETERS = ("epoch", "logs", "trainer", "pl_module")
"""Parameters of the methods of Keras' and Lightning's callbacks."""


_checked_classes: WeakSet[type] = WeakSet()


def check_methods(cls: type[ParamsBase]) -> None:
    """Check the members of a class against the classes of this package that it extends.

    Raises:
        CodeError: for a method with an incompatible signature, a constant of the wrong type, and a public method or
            parameter that is never used and resembles an existing one.
    """
    if cls in _checked_classes:
        return
    user_classes = [base for base in cls.__mro__ if issubclass(base, ParamsBase) and not _is_framework_class(base)]
    inherited = _framework_members(cls)
    for base in user_classes:
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            if name in inherited:
                _check_override(base, name, value, inherited[name])
            elif isinstance(value, (FunctionType, staticmethod, classmethod, property)):
                _check_unused(cls, base, name, inherited)
        for name in inspect.get_annotations(base):
            if not name.startswith("_") and name not in inherited:
                _check_unused(cls, base, name, inherited)
    _checked_classes.add(cls)


def _is_framework_class(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == PACKAGE


def _framework_members(cls: type) -> dict[str, Any]:
    """Return the public methods, constants and parameters that a class inherits from classes of this package."""
    members: dict[str, Any] = {}
    for base in reversed([base for base in cls.__mro__ if _is_framework_class(base)]):
        members |= dict.fromkeys(inspect.get_annotations(base))
        members |= vars(base)
    return {name: value for name, value in members.items() if not name.startswith("_")}


def _check_override(cls: type, name: str, value: Any, inherited: Any) -> None:
    where = f"{cls.__qualname__}.{name}"
    if isinstance(inherited, property):
        if isinstance(value, FunctionType):
            raise CodeError(f"{where} must be a property: add @property", value)
    elif isinstance(inherited, FunctionType):
        if isinstance(value, property) or not callable(inspect.unwrap(getattr(value, "__func__", value))):
            raise CodeError(
                f"{where} must be a method: def {name}{_format_parameters(inherited)}", attribute_frame(cls, name)
            )
        function = inspect.unwrap(getattr(value, "__func__", value))
        # A module of this package that is run as `python -m` is `__main__` and defines its own methods.
        is_own = isinstance(function, FunctionType) and function.__module__ == cls.__module__
        if isinstance(function, FunctionType) and not is_own and not is_author_file(function.__code__.co_filename):
            message = (
                f"{where} is {function.__module__}.{function.__name__}; "
                f"expected def {name}{_format_parameters(inherited)}"
            )
            raise CodeError(message, class_attribute_frame(cls, name))
        _check_signature(where, value, inherited)
    else:
        _check_constant(cls, name, value)


def _check_signature(where: str, value: Any, inherited: FunctionType) -> None:
    function = getattr(value, "__func__", value)
    called = list(inspect.signature(inherited).parameters.values())
    if isinstance(value, staticmethod):
        called = called[1:]
    named = {parameter.name: None for parameter in called if parameter.kind is parameter.KEYWORD_ONLY}
    positional = called[: len(called) - len(named)]
    try:
        inspect.signature(function).bind(*positional, **named)
        fits = not _have_other_meanings(list(inspect.signature(function).parameters), [one.name for one in positional])
    except TypeError:
        fits = False
    if not fits:
        message = f"{where} is called with {_format_parameters(inherited)}; it takes {_format_parameters(function)}"
        raise CodeError(message, function_frame(function))


def _have_other_meanings(names: Sequence[str], called: Sequence[str]) -> bool:
    """Return whether names of parameters show that a method expects other values, or in another order."""
    others = {*called, *_FOREIGN_PARAMETERS}
    return any(name != expected and name in others for name, expected in zip(names, called, strict=False))


def _format_parameters(function: Any) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})"


def _check_constant(cls: type, name: str, value: Any) -> None:
    """Check the type of a class variable of this package that a user's class overrides."""
    hint = get_type_hints(
        next(base for base in cls.__mro__ if _is_framework_class(base) and name in inspect.get_annotations(base))
    )
    tp = hint[name]
    if "ClassVar" not in str(tp) or not get_args(tp):
        return
    (expected,) = get_args(tp)
    try:
        kind = get_origin(expected)
        is_plain = isinstance(expected, type) and not issubclass(expected, ParamsBase)
        if is_plain and dataclasses.is_dataclass(expected):
            kind = expected
        if kind not in (Mapping, expected) and Any not in get_args(expected):
            decode_value(expected, encode_value(expected, value))
        elif not isinstance(value, kind):
            raise TypeError(f"expected {with_article(kind.__name__)}, got {with_article(type(value).__name__)}")
    except (ValueError, TypeError, AttributeError) as problem:
        raise CodeError(f"{cls.__qualname__}.{name}: {problem}", attribute_frame(cls, name)) from problem


def _check_unused(cls: type[ParamsBase], base: type, name: str, inherited: Mapping[str, Any]) -> None:
    """Check a member that no class of this package defines."""
    advice = _suggest_name(cls, name, inherited)
    if advice is None or name in _referenced_names(base.__module__.partition(".")[0]):
        return
    raise CodeError(
        f"{base.__qualname__}.{name} is never used; {advice} (start the names of helpers with _)",
        attribute_frame(base, name),
    )


def _suggest_name(cls: type[ParamsBase], name: str, inherited: Mapping[str, Any]) -> str | None:
    """Return a suggestion for the name of an unused member, None if nothing resembles it."""
    if name in cls.foreign_name_hints:
        return cls.foreign_name_hints[name]
    owner = next((owner.__name__ for owner, hook in _iter_abstract_methods() if hook == name), None)
    if owner is not None and isinstance(vars(cls).get(name), FunctionType):
        return f"it is a method of a {owner}"
    near = difflib.get_close_matches(name, inherited, n=1, cutoff=MIN_SIMILARITY)
    return f"did you mean {near[0]}?" if near else None


def _iter_abstract_methods() -> Iterator[tuple[type, str]]:
    """Yield the abstract methods of this package's classes, with their class."""
    waiting: list[type] = [ParamsBase]
    while waiting:
        cls = waiting.pop()
        waiting += filter(_is_framework_class, cls.__subclasses__())
        for name, value in vars(cls).items():
            if getattr(value, "__isabstractmethod__", False):
                yield cls, name


@functools.cache
def _referenced_names(package: str) -> frozenset[str]:
    """Return the names that imported modules of a package refer to, also in strings; all names if one has no source."""
    names: set[str] = set()
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] != package or not getattr(module, "__file__", None):
            continue
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError, SyntaxError):
            return _AllNames()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
    return frozenset(names) if names else _AllNames()


class _AllNames(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True
