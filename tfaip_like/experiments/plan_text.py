"""YAML in which every scalar is the text that was written, and everything knows its line.

A plan gives words to flags, as a command line does; so `no`, `1e-4` and `007` must stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from tfaip_like.errors import UsageError

Content: TypeAlias = "str | list[Entry] | dict[str, Entry] | None"


@dataclass(frozen=True)
class Entry:
    """A piece of a file: a text, nothing, a list or a mapping, and where it is written."""

    content: Content
    where: str
    """`plan.yaml, line 12`"""

    def fail(self, problem: str) -> UsageError:
        """The error to raise about this piece."""
        return UsageError(f"{self.where}: {problem}")


def read_entries(path: Path) -> Entry:
    """The contents of a YAML file.

    Raises:
        UsageError: when it cannot be read, is no YAML, or names something twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UsageError(f"{path}: cannot be read: {reason}") from error
    return parse_entries(text, str(path))


def parse_entries(text: str, file: str) -> Entry:
    """The contents of a text in YAML."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    return Entry(None, file) if root is None else _entry(root, file, ())


def _entry(node: yaml.Node, file: str, outer: Sequence[yaml.Node], where: str = "") -> Entry:
    where = where or _where(node, file)
    if node in outer:
        raise UsageError(f"{where}: an alias contains itself")
    inner = (*outer, node)
    if isinstance(node, yaml.MappingNode):
        pairs = _pairs(node, file)
        return Entry({key.value: _entry(value, file, inner, _where(key, file)) for key, value in pairs}, where)
    if isinstance(node, yaml.SequenceNode):
        return Entry([_entry(item, file, inner) for item in node.value], where)
    return Entry(None if node.tag == "tag:yaml.org,2002:null" else node.value, where)


def _pairs(mapping: yaml.MappingNode, file: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """The names of a mapping and their values; first those that `<<` merges into it."""
    own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
    merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
    for key, value in mapping.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(node, yaml.MappingNode):
                    raise UsageError(f"{_where(key, file)}: `<<` merges mappings only")
                merged = {**{name.value: (name, of) for name, of in _pairs(node, file)}, **merged}
            continue
        if not isinstance(key, yaml.ScalarNode) or not key.value:
            raise UsageError(f"{_where(key, file)}: a name is missing before the colon")
        if key.value in own:
            raise UsageError(f"{_where(key, file)}: {key.value!r} is given twice")
        own[key.value] = key, value
    return list({**merged, **own}.values())


def _where(node: yaml.Node, file: str) -> str:
    return f"{file}, line {node.start_mark.line + 1}"
