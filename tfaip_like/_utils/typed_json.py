"""Decoding of JSON into typed values: dataclasses and `TypedDict`s.

Files may have been edited, truncated or confused with others. Values of the wrong type are errors that name the file
and the key; nothing is guessed.

Example:
    >>> @dataclasses.dataclass(frozen=True)
    ... class Ticket:
    ...     state: Literal["waiting", "ended"]
    ...     code: int | None = None
    >>> decode(Ticket, {"state": "ended", "code": 1}, "ticket.json")
    Ticket(state='ended', code=1)
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from tfaip_like._utils.errors import UsageError, truncate_list, with_article
from tfaip_like._utils.json_files import NON_FINITE_NAMES, Json, require_json_object, short_json

T = TypeVar("T")

MAX_INT = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """Minimum of a finite number, as annotation of its type."""

    value: float


Count: TypeAlias = Annotated[int, AtLeast(0)]
Seconds: TypeAlias = Annotated[float, AtLeast(0)]


class _DecodeError(Exception):
    """Error in a value, with the path of keys to it."""

    def __init__(self, text: str, key_path: tuple[str, ...] = ()):
        super().__init__(text)
        self.text = text
        self.key_path = key_path

    def with_parent_key(self, key: str) -> _DecodeError:
        return _DecodeError(self.text, (key, *self.key_path))

    def message(self, where: str) -> str:
        return f"{where}: {'.'.join(self.key_path)}: {self.text}" if self.key_path else f"{where}, line 1: {self.text}"


def decode(tp: type[T], value: Json, where: str) -> T:
    """Convert a JSON value into a typed value.

    Args:
        tp: dataclass, `TypedDict` or other type.
        value: JSON value.
        where: name of the file, for messages.

    Raises:
        UsageError: if the value does not match the type; names the key.
    """
    try:
        return cast(T, _decode_value(tp, value))
    except _DecodeError as problem:
        raise UsageError(problem.message(where)) from None


def decode_lenient(tp: type[T], value: Json, where: str, problems: list[str]) -> T:
    """Convert a JSON object into a `TypedDict`, omitting invalid keys.

    Args:
        tp: `TypedDict`.
        value: JSON object.
        where: name of the file, for messages.
        problems: list to append a message to for each invalid key.
    """
    try:
        values = require_json_object(value, where)
    except UsageError as error:
        problems.append(str(error))
        return cast(T, {})
    valid, errors = _decode_fields(tp, values)
    problems += [error.message(where) for error in errors]
    return cast(T, valid)


def _decode_value(tp: Any, value: Json) -> Any:
    if get_origin(tp) is Annotated:
        return _decode_bounded(tp, value)
    if dataclasses.is_dataclass(tp):
        return _decode_dataclass(cast(type, tp), value)
    if is_typeddict(tp):
        return _decode_fields_strict(tp, value)
    origin, arguments = get_origin(tp), get_args(tp)
    if origin in (Union, types.UnionType):
        return _decode_union(tp, arguments, value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _decode_at(key, arguments[1], part) for key, part in value.items()}
    if origin in (list, Sequence) and isinstance(value, list):
        return [_decode_at(str(index), arguments[0], part) for index, part in enumerate(value)]
    if origin is tuple and isinstance(value, list):
        return _decode_tuple(arguments, value)
    if _is_instance(tp, value):
        return value
    if tp is float and isinstance(value, str) and value.lower() in NON_FINITE_NAMES:
        return float(value)
    if tp is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if tp is int and isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT:
        return int(value)
    raise _DecodeError(f"expected {_describe_type(tp)}, got {short_json(value)}")


def _decode_tuple(types_of: tuple[Any, ...], values: list[Json]) -> tuple[Any, ...]:
    if types_of[-1] is Ellipsis:
        types_of = types_of[:1] * len(values)
    if len(types_of) != len(values):
        raise _DecodeError(f"expected {len(types_of)} values, got {len(values)}")
    pairs = zip(types_of, values, strict=True)
    return tuple(_decode_at(str(index), tp, part) for index, (tp, part) in enumerate(pairs))


def _is_instance(tp: Any, value: Json) -> bool:
    """Return whether a value has a type without conversion."""
    if tp is Any or isinstance(tp, ForwardRef):  # `Json` within itself
        return True
    if tp is type(None):
        return value is None
    if get_origin(tp) is Literal:
        return any(choice == value and type(choice) is type(value) for choice in get_args(tp))
    if tp is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INT
    return tp in (str, bool) and isinstance(value, tp)


def _decode_bounded(tp: Any, value: Json) -> Any:
    number = _decode_value(get_args(tp)[0], value)
    minimum = next(bound.value for bound in tp.__metadata__ if isinstance(bound, AtLeast))
    if number < minimum:
        raise _DecodeError(f"must be at least {minimum:g}, got {short_json(value)}")
    if not number <= MAX_INT:  # also NaN
        raise _DecodeError(f"expected a number from {minimum:g} to {MAX_INT:.0e}, got {short_json(value)}")
    return number


def _decode_union(tp: Any, members: tuple[Any, ...], value: Json) -> Any:
    problems = []
    for member in sorted(members, key=lambda member: member is int and isinstance(value, float)):  # 1.0 stays a float
        try:
            return _decode_value(member, value)
        except _DecodeError as problem:
            problems.append(problem)
    deepest = max(problems, key=lambda problem: len(problem.key_path))
    raise deepest if deepest.key_path else _DecodeError(f"expected {_describe_type(tp)}, got {short_json(value)}")


def _decode_dataclass(cls: type, value: Json) -> Any:
    try:
        return cls(**_decode_fields_strict(cls, value))
    except ValueError as error:
        raise _DecodeError(str(error)) from error


def _decode_fields_strict(tp: Any, value: Json) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _DecodeError(f"expected an object, got {short_json(value)}")
    valid, errors = _decode_fields(tp, value)
    if errors:
        raise errors[0]
    return valid


def _decode_fields(tp: Any, values: Mapping[str, Json]) -> tuple[dict[str, Any], list[_DecodeError]]:
    """Return the valid fields, and the errors: first invalid values, then missing keys, which may be misspelt."""
    types_of, valid, errors = _field_types(tp), dict[str, Any](), list[_DecodeError]()
    for key, part in values.items():
        if key in types_of:
            try:
                valid[key] = _decode_at(key, types_of[key], part)
            except _DecodeError as error:
                errors.append(error)
            continue
        near = difflib.get_close_matches(key, [name for name in types_of if name not in values], n=1, cutoff=0.8)
        if is_typeddict(tp) and not near:  # the file may contain keys that we do not read
            valid[key] = part
        else:
            hint = f"; did you mean {near[0]}?" if near else ""
            errors.append(_DecodeError(f"unknown key{hint}", (key,)))
    if is_typeddict(tp) and values and not any(key in types_of for key in values) and not errors:
        errors.append(_DecodeError(f"unexpected content: none of the keys {truncate_list(list(types_of))}"))
    errors += [_DecodeError("missing key", (key,)) for key in _required_keys(tp) if key not in values]
    return valid, errors


def _decode_at(key: str, tp: Any, value: Json) -> Any:
    try:
        return _decode_value(tp, value)
    except _DecodeError as problem:
        raise problem.with_parent_key(key) from None


@cache  # batches contain thousands of small files
def _field_types(tp: Any) -> dict[str, Any]:
    hints = get_type_hints(tp, include_extras=True)
    marks = (Required, NotRequired)
    return {name: get_args(hint)[0] if get_origin(hint) in marks else hint for name, hint in hints.items()}


@cache
def _required_keys(tp: Any) -> tuple[str, ...]:
    if is_typeddict(tp):
        return tuple(sorted(tp.__required_keys__))
    missing = dataclasses.MISSING
    fields = dataclasses.fields(tp)
    return tuple(field.name for field in fields if field.default is missing and field.default_factory is missing)


def _describe_type(tp: Any) -> str:
    origin, arguments = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _describe_type(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_describe_type(member) for member in arguments)
    if origin is Literal:
        return " or ".join(short_json(choice) for choice in arguments)
    if origin in (list, Sequence, tuple):
        return f"a list of {_describe_type(arguments[0]).split(' ', 1)[-1]}s"
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(tp, "an object") if tp is not Any else with_article("value")
