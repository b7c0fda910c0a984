"""Plain types of parameters: their values are one word after a flag and a scalar in JSON.

Each is a class, listed in `PLAIN_TYPES`: flags, files, help texts and the JSON Schema accept a type added there.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from tfaip_like._utils.json_files import Json, short_json
from tfaip_like._utils.remote_paths import to_path

NONE_TYPE = type(None)
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")


class PlainType(abc.ABC):
    """Plain type, or a family of them: all enumerations.

    Args:
        tp: type of the parameter.
    """

    name: ClassVar[str]
    """Name in messages, after "use"."""
    value_class: ClassVar[type | tuple[()]]
    """Class of the values; empty if they are those of other types."""
    is_text: ClassVar[bool] = False
    """Whether words of other types are values too."""

    metavar: str
    """Placeholder of a value in help texts."""
    description: str
    """Description in messages, after "expected"."""
    choices: Sequence[str] = ()
    """Allowed words, if their number is finite."""
    schema: Mapping[str, Any]
    """JSON Schema of a value."""

    def __init__(self, tp: Any):
        self.tp = tp

    @classmethod
    def matches(cls, tp: Any) -> bool:
        """Return whether a type is this one or belongs to this family."""
        return tp is cls.value_class

    @abc.abstractmethod
    def parse(self, word: str) -> Any:
        """Return the value of a command-line word; raises `ValueError` if it has none."""

    def decode(self, value: Json) -> Any:
        """Return the value of a JSON value; raises `ValueError` if it has none."""
        if isinstance(value, str):
            return self.parse(value)
        raise self.make_error(short_json(value))

    @staticmethod
    def encode(value: Any) -> Json:
        """Return the JSON value that `decode` converts back."""
        return value  # type: ignore[no-any-return]

    def make_error(self, shown: str) -> ValueError:
        """Return an error about a value that is not of the type."""
        return ValueError(f"expected {self.description}, got {shown}")


class _None(PlainType):
    name, value_class = "None", NONE_TYPE
    metavar = description = "none"
    choices = ("none",)
    schema = {"type": "null"}

    def parse(self, word: str) -> None:
        if word.lower() != "none":
            raise self.make_error(repr(word))

    def decode(self, value: Json) -> None:
        if value is not None:
            raise self.make_error(short_json(value))


class _Choice(PlainType):
    """Family of types with a finite set of values.

    Args:
        tp: type of the parameter.
        choices: words of its values.
        json_values: JSON values of its values.
    """

    def __init__(self, tp: Any, choices: Sequence[str], json_values: Sequence[Json]):
        super().__init__(tp)
        self.choices = choices
        self.metavar = " | ".join(choices)
        self.description = f"one of {', '.join(choices)}"
        self.schema = {"enum": [*json_values]}


class _Literal(_Choice):
    name, value_class = "Literal", ()

    def __init__(self, tp: Any):
        super().__init__(tp, [str(choice) for choice in get_args(tp)], get_args(tp))

    @classmethod
    def matches(cls, tp: Any) -> bool:
        return get_origin(tp) is Literal

    def parse(self, word: str) -> Any:
        for choice in get_args(self.tp):
            if word == str(choice):
                return choice
        raise self.make_error(repr(word))

    def decode(self, value: Json) -> Any:
        for choice in get_args(self.tp):
            if choice == value and type(choice) is type(value):
                return choice
        raise self.make_error(short_json(value))


class _Enum(_Choice):
    name, value_class = "an Enum", Enum

    def __init__(self, tp: Any):
        super().__init__(tp, [*tp.__members__], [*tp.__members__])

    @classmethod
    def matches(cls, tp: Any) -> bool:
        return isinstance(tp, type) and issubclass(tp, Enum)

    def parse(self, word: str) -> Enum:
        members: Mapping[str, Enum] = self.tp.__members__
        if word in members:
            return members[word]
        for choice in members.values():
            if word == str(choice.value):
                return choice
        raise self.make_error(repr(word))

    @staticmethod
    def encode(value: Enum) -> str:
        return value.name


class _Int(PlainType):
    name, value_class = "int", int
    metavar, description = "INT", "an integer"
    schema = {"type": "integer"}

    def parse(self, word: str) -> int:
        with suppress(ValueError):
            return int(word)
        with suppress(ValueError):
            if (number := float(word)).is_integer():  # 1e4
                return int(number)
        raise self.make_error(repr(word))

    def decode(self, value: Json) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise self.make_error(short_json(value))


class _Float(PlainType):
    name, value_class = "float", float
    metavar, description = "FLOAT", "a number"
    schema = {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}  # JSON has no infinity

    def parse(self, word: str) -> float:
        try:
            return float(word)
        except ValueError:
            raise self.make_error(repr(word)) from None

    def decode(self, value: Json) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise self.make_error(short_json(value))

    @staticmethod
    def encode(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)


class _Bool(PlainType):
    name, value_class = "bool", bool
    metavar, description = "true | false", "true or false"
    choices = ("true", "false")
    schema = {"type": "boolean"}

    def parse(self, word: str) -> bool:
        if word.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
            raise self.make_error(repr(word))
        return word.lower() in TRUE_WORDS

    def decode(self, value: Json) -> bool:
        if not isinstance(value, bool):
            raise self.make_error(short_json(value))
        return value


class _Path(PlainType):
    name, value_class, is_text = "Path", Path, True
    metavar, description = "PATH", "a path"
    schema = {"type": "string"}

    def parse(self, word: str) -> Path:
        if not word:
            raise self.make_error("nothing")
        if "\0" in word:
            raise self.make_error(repr(word))
        return Path(word).expanduser() if word.startswith("~") else to_path(word)  # a file may be called ./~

    @staticmethod
    def encode(value: Path) -> str:
        return f"./{value}" if str(value).startswith("~") else str(value)  # not a home directory


class _Str(PlainType):
    name, value_class, is_text = "str", str, True
    metavar, description = "TEXT", "a string"
    schema = {"type": "string"}

    def parse(self, word: str) -> str:
        return word


PLAIN_TYPES: Sequence[type[PlainType]] = (_None, _Literal, _Enum, _Int, _Float, _Bool, _Path, _Str)
"""All plain types, the strictest first: the order in which the members of a union are tried."""

QUOTABLE_TYPES = (float, int, bool)
"""Types whose JSON value may also be a string with the word, since JSON has no infinity; the first of a union wins."""


def find_plain_type(tp: Any) -> PlainType | None:
    """Return the definition of a type; None if it is not plain."""
    return next((kind(tp) for kind in PLAIN_TYPES if kind.matches(tp)), None)


def strictness(tp: Any) -> int:
    """Return the rank of a union member: members with smaller ranks are stricter and tried first."""
    return next((rank for rank, kind in enumerate(PLAIN_TYPES) if kind.matches(tp)), len(PLAIN_TYPES))


def is_plain_value(value: Any) -> bool:
    """Return whether a value is of a plain type."""
    return any(isinstance(value, kind.value_class) for kind in PLAIN_TYPES)


def encode_plain_value(value: Any) -> Json:
    """Return the JSON value of a value of any plain type."""
    kind = next((kind for kind in PLAIN_TYPES if isinstance(value, kind.value_class)), PlainType)
    return kind.encode(value)


def format_plain_value(value: Any) -> str:
    """Return the word of a value of any plain type."""
    encoded = encode_plain_value(value)
    return str(encoded).lower() if encoded is None or isinstance(encoded, bool) else str(encoded)
