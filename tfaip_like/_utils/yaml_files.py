"""YAML files, all read by the same rules, in which everything knows its line.

- A value without quotes means what the same word means behind a flag, so its type is that of the parameter: `010` and
  `1e3` are 10 and 1000 for a number and these letters for a text; `no`, `1:30` and `2024-01-31` are never turned into
  something else. The values `null`, `~` and nothing at all are none. A value in quotes is a text.
- A name may be given once in a mapping. Anchors, aliases and `<<` work; other tags than `!!str` are refused.
- JSON is valid YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import Json, read_text

MAX_ENTRIES = 1_000_000
"""Of a file once its aliases are expanded; ten lines of aliases to aliases can mean billions."""
NULL_SCALARS = ("", "~", "null", "Null", "NULL")


class PlainScalar(str):
    """A value that was written without quotes: it means what the same word means behind a flag."""

    __slots__ = ()


YamlContent: TypeAlias = "str | list[YamlNode] | dict[str, YamlNode] | None"


@dataclass(frozen=True)
class YamlNode:
    """Part of a file: a text (a `PlainScalar` if it has no quotes), nothing, a list or a mapping; and its line."""

    content: YamlContent
    where: str
    """`plan.yaml, line 12`"""

    def make_error(self, problem: str) -> UsageError:
        """Return the error to raise about this piece."""
        return UsageError(f"{self.where}: {problem}")

    def value(self) -> Json:
        """Return the piece without its lines."""
        if isinstance(self.content, dict):
            return {name: entry.value() for name, entry in self.content.items()}
        if isinstance(self.content, list):
            return [entry.value() for entry in self.content]
        return self.content

    def to_dict(self) -> dict[str, Json]:
        """Return a mapping without its lines.

        Raises:
            UsageError: if it is something else.
        """
        value = self.value()
        if not isinstance(value, dict):
            raise self.make_error("expected a mapping of names to values, such as `trainer: {epochs: 3}`")
        return value


def read_yaml(path: Path) -> YamlNode:
    """Return the contents of a YAML file.

    Raises:
        UsageError: if it cannot be read, is not valid, or gives a name twice; it names the file and the line.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, file: str) -> YamlNode:
    """Return the contents of a YAML text; see `read_yaml`."""
    try:
        root = yaml.compose(text, yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = escape_text(chr(error.character)) if isinstance(error.character, int) else error.character
        raise UsageError(f"{file}, line {line}: not valid YAML: the character {character} is not allowed") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark else 1
        raise UsageError(f"{file}, line {line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise UsageError(f"{file}, line {_deepest_line(text)}: nested too deeply") from error
    if root is None:
        return YamlNode(None, f"{file}, line 1")
    try:
        return _YamlReader(file).entry(root, ())
    except RecursionError as error:
        raise UsageError(f"{file}, line {_deepest_line(text)}: nested too deeply") from error


class _YamlReader:
    def __init__(self, file: str):
        self.file = file
        self.num_entries = 0

    def entry(self, node: yaml.Node, outer: Sequence[yaml.Node], where: str = "") -> YamlNode:
        where = where or self.where(node)
        self.num_entries += 1
        if self.num_entries > MAX_ENTRIES:
            raise UsageError(f"{where}: its aliases stand for more than {MAX_ENTRIES:,} values")
        if any(node is one for one in outer):
            raise UsageError(f"{where}: an alias contains itself")
        inner = (*outer, node)
        if isinstance(node, yaml.MappingNode):
            self.check_tag(node, "map", where)
            pairs = self.pairs(node, inner)
            return YamlNode({key.value: self.entry(value, inner, self.where(key)) for key, value in pairs}, where)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, "seq", where)
            return YamlNode([self.entry(item, inner) for item in node.value], where)
        self.check_tag(node, "str", where)
        return YamlNode(_parse_scalar(node), where)

    def pairs(
        self, mapping: yaml.MappingNode, outer: Sequence[yaml.Node]
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return the names of a mapping and their values; first those that `<<` merges into it."""
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(f"{self.where(key)}: a name must be a text, not a list or a mapping")
            if key.value == "<<" and key.style is None:
                for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(node, yaml.MappingNode):
                        raise UsageError(f"{self.where(key)}: `<<` merges mappings only")
                    if any(node is one for one in outer):
                        raise UsageError(f"{self.where(key)}: an alias contains itself")
                    merged = {**{name.value: (name, of) for name, of in self.pairs(node, (*outer, node))}, **merged}
                continue
            if not key.value and key.style is None:
                raise UsageError(f"{self.where(key)}: a name is missing before the colon")
            if key.value in own:
                first = own[key.value][0].start_mark.line + 1
                raise UsageError(f"{self.where(key)}: duplicate key {key.value!r} (first in line {first})")
            own[key.value] = key, value
        return iter({**merged, **own}.values())

    def check_tag(self, node: yaml.Node, usual: str, where: str) -> None:
        if node.tag not in (f"tag:yaml.org,2002:{usual}", "!"):
            tag = escape_text(node.tag.replace("tag:yaml.org,2002:", "!!"))
            raise UsageError(f"{where}: the tag {tag} is not supported; the parameter decides what a value is")

    def where(self, node: yaml.Node) -> str:
        return f"{self.file}, line {node.start_mark.line + 1}"


def _parse_scalar(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return str(node.value)
    return None if node.value in NULL_SCALARS else PlainScalar(node.value)


def _deepest_line(text: str) -> int:
    """Return the line in which a text is nested most deeply."""
    depth = deepest = line = 0
    with suppress(yaml.YAMLError):  # behind the deepest place it may not be valid
        for event in yaml.parse(text, yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > deepest:
                deepest, line = depth, event.start_mark.line if event.start_mark else 0
    return line + 1
