"""Damaged variants of a text file: typos, wrong types, truncation, garbage."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

NUMBERS = (3, 0, -1, 0.5, 2**70, 1e300, float("nan"))
WRONG_VALUES: Sequence[Any] = (None, True, *NUMBERS, "text", "", [], {}, [[[1]]], {"a": {"b": 1}})
RAW = "@raw@"
RAW_VALUES = ("1e999", "9" * 400, "Infinity", "NULL", "[1,", "{}}", '"\\ud800"', "[" * 3000 + "]" * 3000)
"""Written instead of a value without being encoded."""


@dataclass(frozen=True)
class Damage:
    """A damaged version of a file."""

    name: str
    make: Callable[[], bytes] | None
    """Makes its content, only when it is tried: there are tens of thousands. None: see `kind`."""
    key: str | None = None
    """The last key on the way to what was changed, where that is one place."""
    before: Any = None
    after: Any = None
    """The value that was replaced, and by which."""
    kind: str = "file"

    @property
    def content(self) -> bytes | None:
        """Return what is in the file."""
        return self.make() if self.make is not None else None


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
            make = partial(_in_line, lines, number, damage)
            yield replace(damage, name=f"line {number + 1}: {damage.name}", make=make)


def _in_line(lines: Sequence[str], number: int, damage: Damage) -> bytes:
    assert damage.content is not None
    return "\n".join([*lines[:number], damage.content.decode(), *lines[number + 1 :], ""]).encode()


def _as_json(tree: Any) -> str:
    return json.dumps(tree, indent=1)


def _as_yaml(tree: Any) -> str:
    return str(yaml.safe_dump(tree, sort_keys=False))


def _of_tree(tree: Any, text: Any) -> Iterator[Damage]:
    for place, value in _places(tree):
        label, key = ".".join(map(str, place)), str(place[-1])
        changed = partial(_encoded, text, _changed, tree, place)

        def damaged(change: str, make: Callable[[], bytes], *values: Any, label: str = label, key: str = key) -> Damage:
            return Damage(f"{label}{change}", make, key, *values)

        for wrong in WRONG_VALUES:
            yield damaged(f" = {wrong!r}", partial(changed, wrong), value, wrong)
        for raw in RAW_VALUES if text is _as_json else ():
            after = "text" if raw.startswith('"') else math.inf if raw == "Infinity" else RAW
            yield damaged(f" = {raw[:12]}", partial(_with_raw, changed, raw), value, after)
        yield damaged(" deleted", partial(changed, _DELETED), value, _DELETED)
        if isinstance(value, dict):
            make = partial(_encoded, text, _changed, tree, (*place, "unknwon"), 1)
            yield damaged(": unknown key", make, label=label, key="unknwon")
        if isinstance(place[-1], str):
            yield damaged(" misspelt", partial(_encoded, text, _renamed, tree, place), value, _DELETED)
            if text is not json.dumps:
                yield damaged(" twice", partial(_repeated, text, tree, key), value, RAW)


def _encoded(text: Any, change: Callable[..., Any], *arguments: Any) -> bytes:
    return str(text(change(*arguments))).encode()


def _with_raw(changed: Callable[[Any], bytes], raw: str) -> bytes:
    return changed(RAW).replace(f'"{RAW}"'.encode(), raw.encode())


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


def _repeated(text: Any, tree: Any, key: str) -> bytes:
    """Return the text of a tree in which the first line with a key is there twice."""
    lines = text(tree).splitlines()
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
            yield _fixed(f"line {number + 1} {name}", "\n".join([*lines[:number], *new, *lines[number + 1 :]]).encode())
        for column in range(len(cells)):
            for wrong in ("x", "1e999", "--", "NULL", "1;5", "\x00"):
                new_line = ",".join([*cells[:column], wrong, *cells[column + 1 :]])
                content = "\n".join([*lines[:number], new_line, *lines[number + 1 :]]).encode()
                yield _fixed(f"line {number + 1}, column {column + 1} = {wrong!r}", content, after=wrong)


def _fixed(name: str, content: bytes, after: Any = None) -> Damage:
    return Damage(name, lambda: content, after=after)


def _of_bytes(content: bytes) -> Iterator[Damage]:
    structural = [match.end() for match in re.finditer(rb"[{}\[\],:\n]", content)]
    step = max(1, len(structural) // 60)
    for end in structural[:-1:step]:
        yield _fixed(f"cut after {end} bytes", content[:end], after=RAW)
    yield _fixed("empty", b"", after=RAW)
    yield _fixed("only white space", b" \n \n", after=RAW)
    yield _fixed("zeros", bytes(len(content)), after=RAW)
    yield _fixed("binary", bytes(range(256)), after=RAW)
    yield _fixed("PNG", b"\x89PNG\r\n\x1a\n" + bytes(30), after=RAW)
    yield _fixed("byte-order mark", b"\xef\xbb\xbf" + content)
    yield _fixed("UTF-16", content.decode().encode("utf-16"), after=RAW)
    yield _fixed("Windows lines", content.replace(b"\n", b"\r\n"))
    yield _fixed("twice", content + content, after=RAW)
    yield _fixed("garbage at the end", content + b"}", after=RAW)
    yield _fixed("garbage at the begin", b"]" + content, after=RAW)
    yield _fixed("broken character", content[: len(content) // 2] + b"\xff" + content[len(content) // 2 :], after=RAW)
    yield _fixed("a list", b"[1, 2]", after=RAW)
    yield _fixed("a text", b'"text"', after=RAW)
    yield _fixed("null", b"null", after=RAW)
    yield _fixed("an empty object", b"{}", after=RAW)
    yield _fixed("nested", b"[" * 50000, after=RAW)
    yield _fixed("another file", b'{"some": {"thing": ["else"]}}', after=RAW)
    yield _fixed("HTML", b"<html><body>404</body></html>", after=RAW)
