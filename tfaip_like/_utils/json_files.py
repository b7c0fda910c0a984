"""Strict reading and writing of JSON files.

Reading accepts `NaN`, `Infinity` and a byte-order mark, and rejects duplicate keys, empty files and invalid characters;
every error names the file and the line. Writing produces strict JSON: non-finite numbers become strings ("NaN",
"Infinity", "-Infinity"), and lone surrogates, which represent file names that are not UTF-8, are escaped.
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
"""Maximum number of digits of an integer."""
NON_FINITE_NAMES = ("nan", "inf", "-inf", "infinity", "-infinity")
"""Strings that represent non-finite numbers, in lower case."""


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, without its byte-order mark.

    Raises:
        UsageError: if it cannot be read or is not UTF-8; names the file and the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: not valid UTF-8 (byte 0x{data[error.start]:02x})") from error


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield the line numbers, from 1, and lines of a UTF-8 text file.

    Args:
        path: path of the file.
        errors: error handler of `bytes.decode`; "surrogateescape" accepts file names that are not UTF-8.

    Raises:
        UsageError: if it cannot be read or is not text; names the file and the line.
    """
    try:
        with path.open("rb") as file:
            yield from decode_lines(file, str(path), errors)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def decode_lines(lines: Iterable[bytes], where: str, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Decode lines of bytes; yield line numbers and lines as `read_lines` does.

    Args:
        lines: lines of a file.
        where: name of the file, for messages.
        errors: error handler of `bytes.decode`.

    Raises:
        UsageError: if a line is not text; names the file and the line.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise UsageError(f"{where}, line {number}: not valid UTF-8 (byte 0x{byte:02x})") from error
        if "\0" in text:
            raise UsageError(f"{where}, line {number}: not a text file (byte 0x00)")
        yield number, text


def read_json(path: Path) -> Json:
    """Read a JSON file.

    Raises:
        UsageError: if it cannot be read or is invalid; names the file and the line.
    """
    return parse_json(read_text(path), str(path))


def read_json_object(path: Path) -> dict[str, Json]:
    """Read a JSON file that contains an object.

    Raises:
        UsageError: if it cannot be read, is invalid or contains another value; names the file and the line.
    """
    return require_json_object(read_json(path), str(path))


def require_json_object(value: Json, where: str) -> dict[str, Json]:
    """Return a value that must be an object; raise `UsageError` for other values."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}, line 1: expected an object, got {short_json(value)}")
    return value


def parse_json(text: str, where: str) -> Json:
    """Parse JSON.

    Args:
        text: content of a file.
        where: name of the file, for messages.

    Raises:
        UsageError: if it is invalid or has a duplicate key; names the file and the line.
    """
    try:
        return _parse(text)
    except _JsonSyntaxError as error:
        raise UsageError(f"{where}, line {error.line}: {error}") from error


def parse_json_line(text: str, where: str) -> Json:
    """Parse a line of JSON Lines.

    Args:
        text: the line.
        where: name of the file and line number, for messages.

    Raises:
        UsageError: if it is invalid or has a duplicate key.
    """
    try:
        return _parse(text)
    except _JsonSyntaxError as error:
        raise UsageError(f"{where}: {error}") from error


class _JsonSyntaxError(Exception):
    """Error in JSON text, with its line."""

    def __init__(self, line: int, text: str):
        super().__init__(text)
        self.line = line


def _parse(text: str) -> Json:
    if not text.strip():
        raise _JsonSyntaxError(1, "not valid JSON: empty")
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
        raise _JsonSyntaxError(line, f"number {_truncate(error.digits)} is too large") from error
    except RecursionError as error:
        raise _JsonSyntaxError(_deepest_line(text), "nested too deeply") from error
    for escape in _SURROGATE_ESCAPE.finditer(text):  # may belong to a valid pair, so check the parsed strings
        if any(LONE_SURROGATE.search(part) for part in _iter_strings(value)):
            line = text.count("\n", 0, escape.start()) + 1
            raise _JsonSyntaxError(line, f"{escape[0]} is a lone surrogate")
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
    """Return the two lines of a key in the first object that contains it twice."""
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
    """Return the line of the deepest nesting level."""
    depth = deepest = position = 0
    for token in _TOKEN.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth > deepest:
            deepest, position = depth, token.start()
    return text.count("\n", 0, position) + 1


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Write a value as JSON, atomically.

    Args:
        path: path of the file.
        value: JSON value; other objects are converted with `str`.
        indent: number of spaces per level; None writes a single line.
    """
    atomic_write_text(path, format_json(value, indent) + "\n")


def format_json(value: object, indent: int | None = None) -> str:
    """Format a value as strict JSON in which all characters are printable.

    Args:
        value: JSON value; other objects are converted with `str`.
        indent: number of spaces per level; None formats a single line.

    Example:
        >>> format_json({"loss": float("nan")})
        '{"loss": "NaN"}'
    """
    return escape_json(
        json.dumps(_replace_non_finite(value), indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    )


def _replace_non_finite(value: object) -> object:
    """Return a value with non-finite numbers replaced by strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _replace_non_finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(part) for part in value]
    return value


def short_json(value: Any) -> str:
    """Format a JSON value for a message, on one line and truncated to 60 characters."""
    return _truncate(escape_text(format_json(value)))


def _truncate(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
