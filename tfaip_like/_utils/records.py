"""Objects in JSON files as typed values: dataclasses and `TypedDict`s, checked key by key.

A file that a program reads back may have been edited, truncated or mixed up with another one. What does not fit its
type is refused by the file and the key; nothing is guessed.

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
import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
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

from tfaip_like._utils.errors import UsageError, article, some
from tfaip_like._utils.json_files import NON_FINITE, Json, as_object, read_json, shown

T = TypeVar("T")

MAX_INT = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """Smallest value of a number, as annotation of its type."""

    value: float


Count: TypeAlias = Annotated[int, AtLeast(0)]
Seconds: TypeAlias = Annotated[float, AtLeast(0)]


class _ProblemError(Exception):
    """What is wrong with a value, and the keys that lead to it."""

    def __init__(self, text: str, place: tuple[str, ...] = ()):
        super().__init__(text)
        self.text = text
        self.place = place

    def below(self, key: str) -> _ProblemError:
        return _ProblemError(self.text, (key, *self.place))

    def message(self, where: str) -> str:
        return f"{where}: {'.'.join(self.place)}: {self.text}" if self.place else f"{where}, line 1: {self.text}"


def read_record(tp: type[T], path: Path) -> T:
    """Return the typed value in a JSON file.

    Args:
        tp: a dataclass or a `TypedDict`.

    Raises:
        UsageError: if it cannot be read or does not fit; it names the file, and the line or the key.
    """
    return decode(tp, read_json(path), str(path))


def decode(tp: type[T], value: Json, where: str) -> T:
    """Return a JSON value as one of a type.

    Args:
        where: begins the message of an error: the name of the file.

    Raises:
        UsageError: if it does not fit; it names the key.
    """
    try:
        return cast(T, _decoded(tp, value))
    except _ProblemError as problem:
        raise UsageError(problem.message(where)) from None


def decode_partly(tp: type[T], value: Json, where: str, problems: list[str]) -> T:
    """Return what fits of an object for a `TypedDict`; add a message to `problems` for each key that does not."""
    try:
        values = as_object(value, where)
    except UsageError as error:
        problems.append(str(error))
        return cast(T, {})
    fitting, wrong = _fields(tp, values)
    problems += [problem.message(where) for problem in wrong]
    return cast(T, fitting)


def _decoded(tp: Any, value: Json) -> Any:
    if get_origin(tp) is Annotated:
        return _bounded(tp, value)
    if dataclasses.is_dataclass(tp):
        return _decoded_dataclass(cast(type, tp), value)
    if is_typeddict(tp):
        return _checked_fields(tp, value)
    origin, arguments = get_origin(tp), get_args(tp)
    if origin in (Union, types.UnionType):
        return _decoded_union(tp, arguments, value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _below(key, arguments[1], part) for key, part in value.items()}
    if origin in (list, Sequence) and isinstance(value, list):
        return [_below(str(index), arguments[0], part) for index, part in enumerate(value)]
    if origin is tuple and isinstance(value, list):
        return tuple(_below(str(index), arguments[0], part) for index, part in enumerate(value))
    if _is_plain(tp, value):
        return value
    if tp is float and isinstance(value, str) and value.lower() in NON_FINITE:
        return float(value)
    if tp is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if tp is int and isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT:
        return int(value)
    raise _ProblemError(f"expected {_noun(tp)}, got {shown(value)}")


def _is_plain(tp: Any, value: Json) -> bool:
    """Return whether a value is of a type already."""
    if tp is Any:
        return True
    if tp is type(None):
        return value is None
    if get_origin(tp) is Literal:
        return any(choice == value and type(choice) is type(value) for choice in get_args(tp))
    if tp is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INT
    return tp in (str, bool) and isinstance(value, tp)


def _bounded(tp: Any, value: Json) -> Any:
    number = _decoded(get_args(tp)[0], value)
    least = next(bound.value for bound in tp.__metadata__ if isinstance(bound, AtLeast))
    if not math.isnan(number) and number < least:
        raise _ProblemError(f"must be {least:g} or more, got {shown(value)}")
    return number


def _decoded_union(tp: Any, members: tuple[Any, ...], value: Json) -> Any:
    problems = []
    for member in members:
        try:
            return _decoded(member, value)
        except _ProblemError as problem:
            problems.append(problem)
    deepest = max(problems, key=lambda problem: len(problem.place))
    raise deepest if deepest.place else _ProblemError(f"expected {_noun(tp)}, got {shown(value)}")


def _decoded_dataclass(cls: type, value: Json) -> Any:
    try:
        return cls(**_checked_fields(cls, value))
    except ValueError as error:
        raise _ProblemError(str(error)) from error


def _checked_fields(tp: Any, value: Json) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ProblemError(f"expected an object, got {shown(value)}")
    fitting, wrong = _fields(tp, value)
    if wrong:
        raise wrong[0]
    return fitting


def _fields(tp: Any, values: Mapping[str, Json]) -> tuple[dict[str, Any], list[_ProblemError]]:
    """Return what fits, and what is wrong: values before missing keys, which may only be misspelt."""
    types_of, fitting, wrong = _types(tp), dict[str, Any](), list[_ProblemError]()
    for key, part in values.items():
        if key in types_of:
            try:
                fitting[key] = _below(key, types_of[key], part)
            except _ProblemError as problem:
                wrong.append(problem)
            continue
        near = difflib.get_close_matches(key, [name for name in types_of if name not in values], n=1, cutoff=0.8)
        if is_typeddict(tp) and not near:  # more may be kept there than we read
            fitting[key] = part
        else:
            hint = f"; did you mean {near[0]}?" if near else ""
            wrong.append(_ProblemError(f"there is no such key{hint}", (key,)))
    if is_typeddict(tp) and values and not any(key in types_of for key in values) and not wrong:
        wrong.append(_ProblemError(f"is another file: it has none of the keys {some(list(types_of))}"))
    wrong += [_ProblemError("is missing", (key,)) for key in _required(tp) if key not in values]
    return fitting, wrong


def _below(key: str, tp: Any, value: Json) -> Any:
    try:
        return _decoded(tp, value)
    except _ProblemError as problem:
        raise problem.below(key) from None


@cache  # batches have thousands of small files
def _types(tp: Any) -> dict[str, Any]:
    hints = get_type_hints(tp, include_extras=True)
    marks = (Required, NotRequired)
    return {name: get_args(hint)[0] if get_origin(hint) in marks else hint for name, hint in hints.items()}


@cache
def _required(tp: Any) -> tuple[str, ...]:
    if is_typeddict(tp):
        return tuple(sorted(tp.__required_keys__))
    missing = dataclasses.MISSING
    fields = dataclasses.fields(tp)
    return tuple(field.name for field in fields if field.default is missing and field.default_factory is missing)


def _noun(tp: Any) -> str:
    origin, arguments = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _noun(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_noun(member) for member in arguments)
    if origin is Literal:
        return " or ".join(shown(choice) for choice in arguments)
    if origin in (list, Sequence, tuple):
        return f"a list of {_noun(arguments[0]).split(' ', 1)[-1]}s"
    names = {str: "a text", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(tp, "an object") if tp is not Any else article("value")
