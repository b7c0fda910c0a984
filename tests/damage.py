"""Everything that can happen to a text file: typos, wrong types, truncation, garbage."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

WRONG_VALUES: Sequence[Any] = (None, True, 3, -1, 0.5, "text", "", [], {}, [[[1]]], {"a": {"b": 1}}, float("nan"))
RAW = "@raw@"
RAW_VALUES = ("1e999", "9" * 400, "Infinity", "NULL", "[1,", "{}}", '"\\ud800"', "[" * 3000 + "]" * 3000)
"""Written instead of a value without being encoded."""


@dataclass(frozen=True)
class Damage:
    """A damaged version of a file."""

    name: str
    content: bytes | None
    """None: what it is instead of a file is in `kind`."""
    key: str | None = None
    """The last key on the way to what was changed, where that is one place."""
    before: Any = None
    after: Any = None
    """The value that was replaced, and by which."""
    kind: str = "file"


def damages(content: bytes, suffix: str) -> Iterator[Damage]:
    """Yield damaged versions of a file, in a fixed order."""
    if suffix in (".json", ".settings"):
        yield from _of_tree(json.loads(content), _as_json)
    elif suffix == ".yaml":
        yield from _of_tree(yaml.load(content, yaml.BaseLoader), _as_yaml)
    elif suffix == ".csv":
        yield from _of_cells(content.decode())
    elif suffix == ".journal":
        yield from _of_json_lines(content.decode())
    yield from _of_bytes(content)
    for kind in ("missing", "directory", "dangling link"):
        yield Damage(kind, None, kind=kind)


def _of_json_lines(text: str) -> Iterator[Damage]:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for damage in _of_tree(json.loads(line), json.dumps):
            assert damage.content is not None
            content = "\n".join([*lines[:number], damage.content.decode(), *lines[number + 1 :], ""])
            yield replace(damage, name=f"line {number + 1}: {damage.name}", content=content.encode())


def _as_json(tree: Any) -> str:
    return json.dumps(tree, indent=1)


def _as_yaml(tree: Any) -> str:
    return str(yaml.safe_dump(tree, sort_keys=False))


def _of_tree(tree: Any, text: Any) -> Iterator[Damage]:
    for place, value in _places(tree):
        label, key = ".".join(map(str, place)), str(place[-1])
        for wrong in WRONG_VALUES:
            yield Damage(f"{label} = {wrong!r}", text(_changed(tree, place, wrong)).encode(), key, value, wrong)
        for raw in RAW_VALUES if text is _as_json else ():
            written = text(_changed(tree, place, RAW)).replace(f'"{RAW}"', raw)
            after = "text" if raw.startswith('"') else math.inf if raw == "Infinity" else RAW
            yield Damage(f"{label} = {raw[:12]}", written.encode(), key, value, after)
        yield Damage(f"{label} deleted", text(_changed(tree, place, _DELETED)).encode(), key, value, _DELETED)
        if isinstance(value, dict):
            yield Damage(f"{label}: unknown key", text(_changed(tree, (*place, "unknwon"), 1)).encode(), "unknwon")
        if isinstance(place[-1], str):
            yield Damage(f"{label} misspelt", text(_renamed(tree, place)).encode(), key, value, _DELETED)
            if text is not json.dumps:
                yield Damage(f"{label} twice", _repeated(text(tree), key), key, value, RAW)


_DELETED = object()


def _places(tree: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*place, key), value
        yield from _places(value, (*place, key))


def _changed(tree: Any, place: Place, value: Any) -> Any:
    tree = copy.deepcopy(tree)
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    if value is _DELETED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return tree


def _renamed(tree: Any, place: Place) -> Any:
    tree = copy.deepcopy(tree)
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    inner[f"{place[-1]}x"] = inner.pop(place[-1])
    return tree


def _repeated(text: str, key: str) -> bytes:
    """Return a text in which the first line with a key is there twice."""
    lines = text.splitlines()
    index = next(i for i, line in enumerate(lines) if re.match(rf"\s*(- )?['\"]?{re.escape(key)}['\"]?:", line))
    indent = re.match(r"[\s-]*", lines[index])
    assert indent is not None
    twice = f'{" " * len(indent[0])}"{key}": 1'
    if lines[index].lstrip().startswith('"'):  # JSON
        return "\n".join([*lines[:index], f"{twice},", *lines[index:]]).encode()
    first = lines[index].replace("- ", "  ", 1)
    head = lines[index][: len(indent[0])] + twice.lstrip()
    return "\n".join([*lines[:index], head, first, *lines[index + 1 :]]).encode()


def _of_cells(text: str) -> Iterator[Damage]:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        cells = line.split(",")
        changed = {
            "without a cell": cells[:-1],
            "with one more cell": [*cells, "1"],
            "empty": [],
            "twice": [line, *[]],
            "cut": [line[: len(line) // 2]],
            "quoted": ['"' + line],
        }
        for name, parts in changed.items():
            new = [line, line] if name == "twice" else [",".join(parts)]
            yield Damage(f"line {number + 1} {name}", "\n".join([*lines[:number], *new, *lines[number + 1 :]]).encode())
        for column in range(len(cells)):
            for wrong in ("x", "1e999", "--", "NULL", "1;5", "\x00"):
                new_line = ",".join([*cells[:column], wrong, *cells[column + 1 :]])
                content = "\n".join([*lines[:number], new_line, *lines[number + 1 :]]).encode()
                yield Damage(f"line {number + 1}, column {column + 1} = {wrong!r}", content, after=wrong)


def _of_bytes(content: bytes) -> Iterator[Damage]:
    structural = [match.end() for match in re.finditer(rb"[{}\[\],:\n]", content)]
    step = max(1, len(structural) // 60)
    for end in structural[:-1:step]:
        yield Damage(f"cut after {end} bytes", content[:end], after=RAW)
    yield Damage("empty", b"", after=RAW)
    yield Damage("only white space", b" \n \n", after=RAW)
    yield Damage("zeros", bytes(len(content)), after=RAW)
    yield Damage("binary", bytes(range(256)), after=RAW)
    yield Damage("PNG", b"\x89PNG\r\n\x1a\n" + bytes(30), after=RAW)
    yield Damage("byte-order mark", b"\xef\xbb\xbf" + content)
    yield Damage("UTF-16", content.decode().encode("utf-16"), after=RAW)
    yield Damage("Windows lines", content.replace(b"\n", b"\r\n"))
    yield Damage("twice", content + content, after=RAW)
    yield Damage("garbage at the end", content + b"}", after=RAW)
    yield Damage("garbage at the begin", b"]" + content, after=RAW)
    yield Damage("broken character", content[: len(content) // 2] + b"\xff" + content[len(content) // 2 :], after=RAW)
    yield Damage("a list", b"[1, 2]", after=RAW)
    yield Damage("a text", b'"text"', after=RAW)
    yield Damage("null", b"null", after=RAW)
    yield Damage("an empty object", b"{}", after=RAW)
    yield Damage("nested", b"[" * 50000, after=RAW)
    yield Damage("another file", b'{"some": {"thing": ["else"]}}', after=RAW)
    yield Damage("HTML", b"<html><body>404</body></html>", after=RAW)
