"""Formatting of parameter values as command-line words that parse back to the same value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfaip_like._utils.escaping import shell_join
from tfaip_like._utils.json_files import Json, format_json
from tfaip_like.params._base import REQUIRED, ParamsBase
from tfaip_like.params._plain_types import format_plain_value, is_plain_value
from tfaip_like.params._types import is_multi_valued
from tfaip_like.params._values import NEGATIVE_NUMBER, encode_value, parse_value


def value_to_words(tp: Any, value: Any) -> list[str]:
    """Return the words that `parse_value` parses into a value, which must not be a `Params`.

    Simple values are plain words (`true`, `none`, `40 20`, `a=1`). Other values, such as nested lists, empty lists and
    strings that would be parsed as something else, are a single JSON word.

    Args:
        tp: resolved type of the parameter.
        value: its value.
    """
    words = _simple_words(value)
    if words == []:
        return ["{}" if isinstance(value, dict) else "[]"]
    if words is not None and not any(_looks_like_flag(word) for word in words) and _round_trips(tp, words, value):
        return words
    if not is_multi_valued(tp) and words is not None and _round_trips(tp, words, value):
        return words  # after `=`, see `format_flag`
    return [format_json(encode_value(tp, value))]


def json_to_words(value: Json) -> list[str]:
    """Return the words of a JSON value of unknown type, as `value_to_words` does."""
    words = _simple_words(value)
    is_simple = not isinstance(value, (list, dict)) or not _is_ambiguous(words)
    return words if words is not None and is_simple else [format_json(value)]


def _is_ambiguous(words: Sequence[str] | None) -> bool:
    """Return whether the words of a list are empty or would be parsed as something else."""
    return not words or (len(words) == 1 and words[0][:1] in ("[", "{")) or any(map(_looks_like_flag, words))


def format_value(tp: Any, value: Any) -> str:
    """Return a value as typed after its flag, quoted for a shell if necessary."""
    if isinstance(value, ParamsBase):
        return type(value).__name__
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, ParamsBase) for item in value):
        return " ".join(type(item).__name__ for item in value)
    if isinstance(value, dict) and value and all(isinstance(item, ParamsBase) for item in value.values()):
        return shell_join(f"{key}={type(item).__name__}" for key, item in value.items())
    if value is REQUIRED:
        return ""
    return shell_join(value_to_words(tp, value))


def format_flag(flag: str, tp: Any, value: Any) -> str:
    """Return a flag with its value, quoted for a shell.

    Args:
        flag: flag with its dashes.
        tp: resolved type of the parameter.
        value: its value.

    Example:
        >>> format_flag("--model.name", str, "-a b")
        "'--model.name=-a b'"
    """
    if value is REQUIRED or _holds_params(value):
        return f"{flag} {format_value(tp, value)}".rstrip()
    return format_flag_words(flag, value_to_words(tp, value))


def _holds_params(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, ParamsBase) for item in items)


def format_flag_words(flag: str, words: Sequence[str]) -> str:
    """Return a flag followed by words, quoted for a shell."""
    if len(words) == 1 and _looks_like_flag(words[0]):
        return shell_join([f"{flag}={words[0]}"])
    if any(_looks_like_flag(word) for word in words):
        return shell_join([f"{flag}={format_json(list(words))}"])
    return shell_join([flag, *words])


def _simple_words(value: Any) -> list[str] | None:
    """Return the words of a plain value, or of a list or mapping of plain values; None for nested values."""
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        words = [_to_word(item) for item in value]
    elif isinstance(value, dict):
        words = [None if (word := _to_word(item)) is None else f"{key}={word}" for key, item in value.items()]
    else:
        words = [_to_word(value)]
    return [word for word in words if word is not None] if None not in words else None


def _to_word(value: Any) -> str | None:
    return format_plain_value(value) if is_plain_value(value) else None


def _round_trips(tp: Any, words: Sequence[str], value: Any) -> bool:
    """Return whether `parse_value` parses words into an identical value."""
    try:
        parsed = parse_value(tp, words)
    except ValueError:
        return False
    return type(parsed) is type(value) and encode_value(tp, parsed) == encode_value(tp, value)


def _looks_like_flag(word: str) -> bool:
    """Return whether a word after a flag would be parsed as another flag, or rejected as one."""
    return word.startswith("-") and word != "-" and NEGATIVE_NUMBER.match(word) is None
