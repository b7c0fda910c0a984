"""What the type of a parameter is, and how it is told to a person."""

from __future__ import annotations

import types
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from tfaip_like._utils.errors import article
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._variants import variants

SEQUENCES = {list: list, tuple: tuple, set: set, frozenset: frozenset, Sequence: list}
NONE = type(None)


def members(tp: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type alone."""
    return get_args(tp) if get_origin(tp) in (Union, types.UnionType) else (tp,)


def is_optional(tp: Any) -> bool:
    return NONE in members(tp)


def params_bases(tp: Any) -> tuple[type[ParamsBase], ...]:
    """The `Params` classes among the alternatives of a type: a field that holds variants."""
    return tuple(member for member in members(tp) if is_class(member, ParamsBase))


def sequence_of(tp: Any) -> Any | None:
    """The type of the items of a list, set or tuple of any length, else None."""
    for member in members(tp):
        args = get_args(member)
        if get_origin(member) in SEQUENCES and args and not is_fixed_tuple(member):
            return args[0]
    return None


def make_sequence(tp: Any, items: list[Any]) -> Any:
    """`items` as the list, tuple or set that a type says."""
    return next(SEQUENCES[get_origin(member)] for member in members(tp) if get_origin(member) in SEQUENCES)(items)


def dict_of(tp: Any) -> Any | None:
    """The type of the values of a dict, else None."""
    for member in members(tp):
        if get_origin(member) is dict:
            return get_args(member)[1]
    return None


def takes_many_words(tp: Any) -> bool:
    return any(get_origin(member) in (*SEQUENCES, dict) for member in members(tp))


def describe(tp: Any) -> str:
    """How a value is written on the command line: `INT`, `a | b`, `FLOAT ...`."""
    return " | ".join(_describe(member) for member in sorted(members(tp), key=lambda m: m is NONE))


def _describe(tp: Any) -> str:
    if tp is NONE:
        return "none"
    if tp is bool:
        return "true | false"
    if is_class(tp, Enum):
        return " | ".join(tp.__members__)
    if is_class(tp, ParamsBase):
        return " | ".join(variants(tp)) or "module:Class"
    origin = get_origin(tp)
    if origin is Literal:
        return " | ".join(str(choice) for choice in get_args(tp))
    if origin is dict:
        return f"NAME={_describe_item(get_args(tp)[1])} ..."
    if is_fixed_tuple(tp):
        return " ".join(_describe_item(item) for item in get_args(tp))
    if origin in SEQUENCES:
        return f"{_describe_item(get_args(tp)[0])} ..."
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(tp, getattr(tp, "__name__", str(tp)))


def _describe_item(tp: Any) -> str:
    text = describe(tp)
    return f"({text})" if " " in text else text


def choices(tp: Any) -> list[str]:
    """The words that can stand for a value, where there are only so many."""
    words: list[str] = []
    for member in members(tp):
        if is_class(member, ParamsBase):
            words += variants(member)
        elif is_class(member, Enum) or get_origin(member) is Literal or member in (bool, NONE):
            words += _describe(member).split(" | ")
        elif get_origin(member) in SEQUENCES and not is_fixed_tuple(member):
            words += choices(get_args(member)[0])
    return words


def check_supported(tp: Any) -> None:
    """Raises `TypeError` for a type that no value can be read into."""
    if params_bases(tp) and any(not is_class(member, (ParamsBase, NONE)) for member in members(tp)):
        raise TypeError(f"{tp} cannot be the type of a parameter: it mixes parameters with plain values")
    for member in members(tp):
        if is_class(member, (bool, int, float, str, Path, NONE, Enum, ParamsBase)) or get_origin(member) is Literal:
            continue
        args = tuple(arg for arg in get_args(member) if arg is not Ellipsis)
        if get_origin(member) is dict and args and args[0] is not str:
            raise TypeError(f"{member} cannot be the type of a parameter: the keys of a dict are str")
        if get_origin(member) in (*SEQUENCES, dict) and args:
            for arg in args:
                check_supported(arg)
            continue
        raise TypeError(
            f"{member} cannot be the type of a parameter; use bool, int, float, str, Path, an Enum, "
            "Literal, another Params, or list[...], tuple[...], dict[str, ...] of them"
        )


def noun(tp: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text", Path: "a path"}
    if tp in names:
        return names[tp]
    if is_class(tp, Enum) or get_origin(tp) is Literal:
        return "one of " + describe(tp).replace(" | ", ", ")
    if is_class(tp, ParamsBase):
        return article(tp.__name__)
    return describe(tp)


def is_class(tp: Any, base: Any) -> bool:
    return isinstance(tp, type) and get_origin(tp) is None and issubclass(tp, base)


def is_fixed_tuple(tp: Any) -> bool:
    return get_origin(tp) is tuple and Ellipsis not in get_args(tp)
