"""Values of flags in a plan: the words of an equivalent command line, and their locations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import shell_join
from tfaip_like.params._base import CLASS_KEY


@dataclass(frozen=True)
class FlagValue:
    """Words of a flag and their location."""

    words: tuple[str, ...]
    where: str = ""
    """Location for messages, such as `plan.yaml, line 12`."""

    def __str__(self) -> str:
        return shell_join(self.words)


Value: TypeAlias = "FlagValue | str | int | float | bool | Path | Sequence[Value] | Mapping[str, Value] | None"
Flags: TypeAlias = Mapping[str, FlagValue]
"""Flags without dashes, and their values."""


def to_flag_value(value: Value, where: str) -> FlagValue:
    """Return the words of a plain value, or of a list of plain values.

    Raises:
        UsageError: for a mapping, which is not a single value.
    """
    if isinstance(value, FlagValue):
        return value
    if isinstance(value, Mapping):
        location = next((part.where for part in value.values() if isinstance(part, FlagValue)), where)
        raise UsageError(f"{location}: expected a value or a list of values, got a mapping with {', '.join(value)}")
    if isinstance(value, (list, tuple)):
        return FlagValue(tuple(word for item in value for word in to_flag_value(item, where).words), where)
    if isinstance(value, bool) or value is None:
        return FlagValue((str(value).lower(),), where)
    return FlagValue((str(value),), where)


def flatten_flags(values: Mapping[str, Value], where: str) -> dict[str, FlagValue]:
    """Return nested values as dotted flags: `{"trainer": {"epochs": 3}}` becomes `trainer.epochs`.

    The key `class` selects a variant, as in parameter files; in a list, that of the item.

    Args:
        values: flags without dashes, nested or dotted.
        where: location of values that have none themselves, for messages.

    Raises:
        UsageError: for a duplicate flag, and a list item without its class.
    """
    flags: dict[str, FlagValue] = {}
    for name, value in values.items():
        for flag, words in _flatten_value(name, value, where):
            if flag in flags:
                raise UsageError(f"{words.where}: --{flag}: duplicate flag")
            flags[flag] = words
    return flags


def _flatten_value(name: str, value: Value, where: str) -> list[tuple[str, FlagValue]]:
    if isinstance(value, Mapping) and not value:
        return [(name, FlagValue(("{}",), where))]
    if isinstance(value, Mapping):
        variant = [(name, to_flag_value(value[CLASS_KEY], where))] if CLASS_KEY in value else []
        parts = [_flatten_value(f"{name}.{key}", part, where) for key, part in value.items() if key != CLASS_KEY]
        return [*variant, *(flag for part in parts for flag in part)]
    if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        return _flatten_items(name, value, where)
    return [(name, to_flag_value(value, where))]


def _flatten_items(name: str, items: Sequence[Value], where: str) -> list[tuple[str, FlagValue]]:
    """Return a list of variants as flags: `[{class: Shift, pixels: 2}]` is `--NAME Shift --NAME.0.pixels 2`."""
    names, parts = [], []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            names.append(to_flag_value(item, where))
            continue
        flags = _flatten_value(f"{name}.{index}", item, where)
        if CLASS_KEY not in item:
            raise UsageError(f"{flags[0][1].where if flags else where}: --{name}: list item without `class`")
        names.append(flags[0][1])
        parts += flags[1:]
    words = tuple(word for name_ in names for word in name_.words)
    return [(name, FlagValue(words, names[0].where)), *parts]


def to_flag_values(values: Value, where: str) -> tuple[FlagValue, ...]:
    """Return each of several alternative values of a flag."""
    return tuple(to_flag_value(value, where) for value in cast(Sequence[Value], values))
