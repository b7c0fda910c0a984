"""JSON files, read strictly and written so that every program can read them.

Reading accepts what Python and we write (`NaN`, `Infinity`, a byte-order mark) and refuses what hides a mistake: a key
that is given twice, an empty file, a broken character. Every error names the file and the line. Writing is strict JSON:
numbers that JSON does not have become texts ("NaN", "Infinity", "-Infinity"), and halves of characters, which names of
files that are not UTF-8 contain, are escaped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_json, escape_text
from tfaip_like._utils.files import LONE_SURROGATE, atomic_write_text

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MAX_DIGITS = 300
"""Of a whole number; longer ones fit into no integer type."""
NON_FINITE_NAMES = ("nan", "inf", "-inf", "infinity", "-infinity")
"""How numbers are written that JSON does not have, in any case."""


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark.

    Raises:
        UsageError: if it cannot be read, or is not text; it names the file and the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: is not text in UTF-8 (byte 0x{data[error.start]:02x})") from error


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file in UTF-8 with their numbers, from 1.

    Args:
        errors: "surrogateescape" accepts other bytes, as in names of files.

    Raises:
        UsageError: if it cannot be read, or is not text; it names the file and the line.
    """
    try:
        with path.open("rb") as file:
            yield from decode_lines(file, str(path), errors)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def decode_lines(lines: Iterable[bytes], where: str, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield lines of bytes as text with their numbers; see `read_lines`."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise UsageError(f"{where}, line {number}: is not text in UTF-8 (byte 0x{byte:02x})") from error
        if "\0" in text:
            raise UsageError(f"{where}, line {number}: is not text (byte 0x00)")
        yield number, text


def read_json(path: Path) -> Json:
    """Return the value in a JSON file.

    Raises:
        UsageError: if it cannot be read; it names the file and the line.
    """
    return parse_json(read_text(path), str(path))


def read_json_object(path: Path) -> dict[str, Json]:
    """Return the object in a JSON file.

    Raises:
        UsageError: if it cannot be read, or holds something else; it names the file and the line.
    """
    return require_json_object(read_json(path), str(path))


def require_json_object(value: Json, where: str) -> dict[str, Json]:
    """Return a value that must be an object; raise `UsageError` for any other."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}, line 1: expected an object, got {short_json(value)}")
    return value


def parse_json(text: str, where: str) -> Json:
    """Return the value of a JSON text.

    Args:
        where: begins the message of an error: the name of the file.

    Raises:
        UsageError: if it is not valid, or gives a key twice; it names the line.
    """
    try:
        return _parse(text)
    except _JsonSyntaxError as error:
        raise UsageError(f"{where}, line {error.line}: {error}") from error


def parse_json_line(text: str, where: str) -> Json:
    """Return the value of a line of JSON.

    Args:
        where: begins the message of an error: the name of the file and the line.

    Raises:
        UsageError: if it is not valid, or gives a key twice.
    """
    try:
        return _parse(text)
    except _JsonSyntaxError as error:
        raise UsageError(f"{where}: {error}") from error


class _JsonSyntaxError(Exception):
    """What is wrong with a text, and in which line."""

    def __init__(self, line: int, text: str):
        super().__init__(text)
        self.line = line


def _parse(text: str) -> Json:
    if not text.strip():
        raise _JsonSyntaxError(1, "not valid JSON: there is nothing in it")
    try:
        value = cast(
            Json,
            json.loads(
                text,
                object_pairs_hook=_reject_duplicate_keys,
                parse_int=_parse_integer,
                parse_float=_parse_finite_float,
            ),
        )
    except json.JSONDecodeError as error:
        raise _JsonSyntaxError(error.lineno, f"not valid JSON: {error.msg}") from error
    except _DuplicateKeyError as error:
        first, second = _duplicate_key_lines(text, error.key)
        raise _JsonSyntaxError(second, f"duplicate key {error.key!r} (first in line {first})") from error
    except _LargeNumberError as error:
        line = text.count("\n", 0, text.index(error.digits)) + 1
        raise _JsonSyntaxError(line, f"the number {_truncate(error.digits)} is too large") from error
    except RecursionError as error:
        raise _JsonSyntaxError(_deepest_line(text), "nested too deeply") from error
    for escape in _SURROGATE_ESCAPE.finditer(text):  # may be half of a pair, so what it became decides
        if any(LONE_SURROGATE.search(part) for part in _iter_strings(value)):
            line = text.count("\n", 0, escape.start()) + 1
            raise _JsonSyntaxError(line, f"{escape[0]} is half of a character")
    return value


_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def _iter_strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from _iter_strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _iter_strings(part)


class _DuplicateKeyError(Exception):
    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


class _LargeNumberError(Exception):
    def __init__(self, digits: str):
        super().__init__(digits)
        self.digits = digits


def _reject_duplicate_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return values


def _parse_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _LargeNumberError(digits)
    return int(digits)


def _parse_finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _LargeNumberError(digits)
    return number


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')


def _duplicate_key_lines(text: str, key: str) -> tuple[int, int]:
    """Return the lines in which the first object that has a key twice has it."""
    keys: list[dict[str, int]] = [{}]
    before: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            keys.append({})
        elif token[0] == "}":
            keys.pop()
        elif token[0] == ":" and before is not None and before[0].startswith('"') and json.loads(before[0]) == key:
            line = text.count("\n", 0, before.start()) + 1
            if key in keys[-1]:
                return keys[-1][key], line
            keys[-1][key] = line
        before = token
    return 1, 1


def _deepest_line(text: str) -> int:
    """Return the line in which a text is nested most deeply."""
    depth = deepest = place = 0
    for token in _TOKEN.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth > deepest:
            deepest, place = depth, token.start()
    return text.count("\n", 0, place) + 1


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Replace a file by the JSON of a value."""
    atomic_write_text(path, format_json(value, indent) + "\n")


def format_json(value: object, indent: int | None = None) -> str:
    """Return a value as strict JSON in which a person can read every character.

    Example:
        >>> format_json({"loss": float("nan")})
        '{"loss": "NaN"}'
    """
    return escape_json(
        json.dumps(_replace_non_finite(value), indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    )


def _replace_non_finite(value: object) -> object:
    """Return a value without numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _replace_non_finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(part) for part in value]
    return value


def short_json(value: Any) -> str:
    """Return a JSON value for a message: on one line, and not longer than that."""
    return _truncate(escape_text(format_json(value)))


def _truncate(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
