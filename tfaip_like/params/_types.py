"""Inspection and description of parameter types."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

from tfaip_like._utils.errors import with_article
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._plain_types import NONE_TYPE, PLAIN_TYPES, find_plain_type
from tfaip_like.params._variants import variant_names

SEQUENCE_TYPES = {list: list, tuple: tuple, set: set, frozenset: frozenset, Sequence: list}


def union_members(tp: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself as the only member."""
    return get_args(tp) if get_origin(tp) in (Union, types.UnionType) else (tp,)


def is_optional(tp: Any) -> bool:
    return NONE_TYPE in union_members(tp)


def params_classes(tp: Any) -> tuple[type[ParamsBase], ...]:
    """Return the `Params` classes among the members of a type; not empty for a field that holds variants."""
    return tuple(member for member in union_members(tp) if is_subclass(member, ParamsBase))


def sequence_item_type(tp: Any) -> Any | None:
    """Return the item type of a list, set or variable-length tuple, else None."""
    for member in union_members(tp):
        args = get_args(member)
        if get_origin(member) in SEQUENCE_TYPES and args and not is_fixed_tuple(member):
            return args[0]
    return None


def make_sequence(tp: Any, items: list[Any]) -> Any:
    """Convert `items` to the list, tuple or set type of a parameter."""
    return next(
        SEQUENCE_TYPES[get_origin(member)] for member in union_members(tp) if get_origin(member) in SEQUENCE_TYPES
    )(items)


def dict_value_type(tp: Any) -> Any | None:
    """Return the value type of a dict, else None."""
    for member in union_members(tp):
        if get_origin(member) is dict:
            return get_args(member)[1]
    return None


def is_multi_valued(tp: Any) -> bool:
    return any(get_origin(member) in (*SEQUENCE_TYPES, dict) for member in union_members(tp))


def type_metavar(tp: Any) -> str:
    """Return the placeholder of a value in help texts: `INT`, `a | b`, `FLOAT ...`."""
    return " | ".join(_member_metavar(member) for member in sorted(union_members(tp), key=lambda m: m is NONE_TYPE))


def _member_metavar(tp: Any) -> str:
    if (plain := find_plain_type(tp)) is not None:
        return plain.metavar
    if is_subclass(tp, ParamsBase):
        return " | ".join(variant_names(tp)) or "module:Class"
    origin = get_origin(tp)
    if origin is dict:
        return f"NAME={_item_metavar(get_args(tp)[1])} ..."
    if is_fixed_tuple(tp):
        return " ".join(_item_metavar(item) for item in get_args(tp))
    if origin in SEQUENCE_TYPES:
        return f"{_item_metavar(get_args(tp)[0])} ..."
    return getattr(tp, "__name__", str(tp))


def _item_metavar(tp: Any) -> str:
    text = type_metavar(tp)
    return f"({text})" if " " in text else text


def type_choices(tp: Any) -> list[str]:
    """Return the words allowed for a type with a finite set of values, else an empty list."""
    words: list[str] = []
    for member in union_members(tp):
        if is_subclass(member, ParamsBase):
            words += variant_names(member)
        elif (plain := find_plain_type(member)) is not None:
            words += plain.choices
        elif get_origin(member) in SEQUENCE_TYPES and not is_fixed_tuple(member):
            words += type_choices(get_args(member)[0])
    return words


def check_type_supported(tp: Any) -> None:
    """Raise `TypeError` for a type that a parameter cannot have."""
    if params_classes(tp) and any(not is_subclass(member, (ParamsBase, NONE_TYPE)) for member in union_members(tp)):
        raise TypeError(f"{tp} cannot be the type of a parameter: it mixes Params with plain types")
    for member in union_members(tp):
        if find_plain_type(member) is not None or is_subclass(member, ParamsBase):
            continue
        args = tuple(arg for arg in get_args(member) if arg is not Ellipsis)
        if get_origin(member) is dict and args and args[0] is not str:
            raise TypeError(f"{member} cannot be the type of a parameter: dict keys must be str")
        if get_origin(member) in (*SEQUENCE_TYPES, dict) and args:
            for arg in args:
                check_type_supported(arg)
            continue
        raise TypeError(
            f"{member} cannot be the type of a parameter; use "
            f"{', '.join(kind.name for kind in reversed(PLAIN_TYPES))}, another Params, or "
            "list[...], tuple[...], dict[str, ...] of them"
        )


def describe_type(tp: Any) -> str:
    if (plain := find_plain_type(tp)) is not None:
        return plain.description
    if is_subclass(tp, ParamsBase):
        return with_article(tp.__name__)
    return type_metavar(tp)


def is_subclass(tp: Any, base: Any) -> bool:
    return isinstance(tp, type) and get_origin(tp) is None and issubclass(tp, base)


def is_fixed_tuple(tp: Any) -> bool:
    return get_origin(tp) is tuple and Ellipsis not in get_args(tp)
