"""A whole tree of parameters: its values by their flags, its check, its difference to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfaip_like._user_code.code_errors import CodeError, attribute
from tfaip_like._utils.errors import UsageError, article
from tfaip_like.params._base import (
    REQUIRED,
    FieldError,
    P,
    ParamsBase,
    Place,
    default_of,
    field_types,
    nested,
    with_defaults,
)
from tfaip_like.params._formatting import format_words
from tfaip_like.params._methods import check_methods
from tfaip_like.params._types import check_supported, describe, dict_of, make_sequence, params_bases, sequence_of
from tfaip_like.params._values import decode, encode


def check_tree(tree: P) -> P:
    """Checks every value of a finished tree: required, of its type, and accepted by its class.

    Returns:
        The tree, in which values that Python code gave as something near their type (a text for a
        path, 2.0 for an integer) have it.

    Raises:
        UsageError: for the first value that is missing or refused, by its flag.
    """
    normal = _of_their_types(tree, (), None)
    for place, params in nested(normal):
        check_methods(type(params))
        try:
            params.check()
        except FieldError as problem:
            raise UsageError(_refused(params, place, problem)) from problem
    return normal


def _of_their_types(params: P, place: Place, made_by: tuple[type, str] | None) -> P:
    """Return parameters whose values are as their types say.

    Args:
        made_by: the class and attribute whose value they are.
    """
    changes = {}
    for name, tp in field_types(type(params)).items():
        value, here = getattr(params, name), (*place, name)
        declared = (type(params), name)
        try:
            check_supported(tp)
            if value is REQUIRED:
                raise UsageError(f"{flag_of(here)} is required ({describe(tp)})")
            converted = _of_its_type(tp, value, here, declared)
        except (ValueError, TypeError) as problem:  # flags and files are checked before: code has given it
            is_default = made_by is None or repr(value) == repr(default_of(*declared))
            line = attribute(*declared) if is_default or made_by is None else attribute(*made_by)
            raise CodeError(f"{flag_of(here)}: {problem}", line) from problem
        if converted is not value:
            changes[name] = converted
    return dataclasses.replace(params, **changes) if changes else params


def _of_its_type(tp: Any, value: Any, place: Place, made_by: tuple[type, str]) -> Any:
    """`value` as its type says, itself where it is so already."""
    if value is REQUIRED:
        raise UsageError(f"{flag_of(place)} is required ({describe(tp)})")
    if isinstance(value, type):
        raise ValueError(f"is the class {value.__name__}; write {value.__name__}()")
    if params_bases(tp) and not isinstance(value, (*params_bases(tp), type(None))):
        bases = " or ".join(base.__name__ for base in params_bases(tp))
        raise ValueError(f"expected {article(bases)}, got {article(type(value).__name__)}")
    if isinstance(value, ParamsBase):
        if not params_bases(tp):
            raise ValueError(f"expected {describe(tp)}, got {article(type(value).__name__)}")
        return _of_their_types(value, place, made_by)
    if isinstance(value, (list, tuple)) and (
        (value and params_bases(sequence_of(tp) or type(None))) or any(isinstance(item, ParamsBase) for item in value)
    ):
        item_type = sequence_of(tp)
        if item_type is None:
            raise ValueError(f"expected {describe(tp)}, got {value!r}")
        return make_sequence(tp, [_of_its_type(item_type, v, (*place, str(i)), made_by) for i, v in enumerate(value)])
    if isinstance(value, dict) and any(isinstance(item, ParamsBase) or item is REQUIRED for item in value.values()):
        return {key: _of_its_type(dict_of(tp), item, (*place, str(key)), made_by) for key, item in value.items()}
    decoded = decode(tp, encode(tp, value))
    return value if repr(decoded) == repr(value) else decoded


def _refused(params: ParamsBase, place: Place, problem: FieldError) -> str:
    """The message for a value that its class refuses; `problem.field` may lead to a part of a part."""
    parts = tuple(problem.field.split("."))
    owner: Any = params
    for part in parts[:-1]:
        owner = getattr(owner, part, None)
    types = field_types(type(owner)) if isinstance(owner, ParamsBase) else {}
    if parts[-1] not in types:
        return f"{flag_of((*place, *parts))}: {problem.message}"
    words = format_words(types[parts[-1]], getattr(owner, parts[-1]))
    return f"{flag_of((*place, *parts))} {words}: {problem.message}"


@dataclass(frozen=True)
class Leaf:
    """One parameter of a tree."""

    place: Place
    type: Any
    value: Any
    owner: type[ParamsBase]

    @property
    def flag(self) -> str:
        return flag_of(self.place)

    @property
    def is_variant(self) -> bool:
        """Return whether its value is itself a tree of parameters."""
        return isinstance(self.value, ParamsBase) or bool(params_bases(self.type))


def leaves(tree: ParamsBase, place: Place = ()) -> Iterator[Leaf]:
    """Every parameter of a tree with its current value; a variant comes before its parts."""
    for name, tp in field_types(type(tree)).items():
        value = getattr(tree, name)
        here = (*place, name)
        yield Leaf(here, tp, value, type(tree))
        for part, part_value in _parts(value):
            if isinstance(part_value, ParamsBase):
                yield from leaves(part_value, (*here, *part))


def _parts(value: Any) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, ParamsBase):
        yield (), value
    elif isinstance(value, (list, tuple)):
        yield from (((str(index),), item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from (((str(key),), item) for key, item in value.items())


def difference(old: ParamsBase, new: ParamsBase) -> list[tuple[str, str, str]]:
    """The flags whose values differ, with the old and the new value as words (`-` where it has none)."""
    before, after = ({leaf.flag: format_words(leaf.type, leaf.value) for leaf in leaves(tree)} for tree in (old, new))
    flags = [*before, *(flag for flag in after if flag not in before)]
    changes = [(flag, before.get(flag, "-"), after.get(flag, "-")) for flag in flags]
    return [change for change in changes if change[1] != change[2]]


def changed_flags(tree: ParamsBase) -> dict[str, str]:
    """The flags whose values are not the defaults of the root's class, with those values as words."""
    return {flag: new for flag, _, new in difference(with_defaults(type(tree)), tree)}


def flag_of(place: Place) -> str:
    """The flag for a place of the tree."""
    return "--" + ".".join(place)
