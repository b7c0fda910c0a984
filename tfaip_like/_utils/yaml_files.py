"""Reading of YAML files, with the line of every value.

- An unquoted value is parsed as the same word after a flag, by the type of the parameter: `010` and `1e3` are 10 and
  1000 for a number and these strings for a string; `no`, `1:30` and `2024-01-31` are never converted. `null`, `~` and
  an empty value are none. A quoted value is a string.
- Duplicate keys are errors. Anchors, aliases and `<<` are supported; tags other than `!!str` are rejected.
- JSON is valid YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.json_files import Json, read_text
from tfaip_like._utils.lazy_imports import LazyModule

if TYPE_CHECKING:
    import yaml
else:
    yaml = LazyModule("yaml")

MAX_ENTRIES = 1_000_000
"""Maximum number of values after expanding aliases; ten lines of nested aliases can expand to billions."""
NULL_SCALARS = ("", "~", "null", "Null", "NULL")


class PlainScalar(str):
    """Unquoted value, which is parsed as the same word after a flag."""

    __slots__ = ()


YamlContent: TypeAlias = "str | list[YamlNode] | dict[str, YamlNode] | None"


@dataclass(frozen=True)
class YamlNode:
    """Value in a file with its line: a string (a `PlainScalar` if unquoted), None, a list or a mapping."""

    content: YamlContent
    where: str
    """`plan.yaml, line 12`"""

    def make_error(self, problem: str) -> UsageError:
        """Return an error about this value, which the caller raises."""
        return UsageError(f"{self.where}: {problem}")

    def value(self) -> Json:
        """Return the value without line information."""
        if isinstance(self.content, dict):
            return {name: entry.value() for name, entry in self.content.items()}
        if isinstance(self.content, list):
            return [entry.value() for entry in self.content]
        return self.content

    def to_dict(self) -> dict[str, Json]:
        """Return a mapping without line information.

        Raises:
            UsageError: if the value is not a mapping.
        """
        value = self.value()
        if not isinstance(value, dict):
            raise self.make_error("expected a mapping of names to values, such as `trainer: {epochs: 3}`")
        return value


def read_yaml(path: Path) -> YamlNode:
    """Read a YAML file.

    Raises:
        UsageError: if it cannot be read, is invalid, or has a duplicate key; names the file and the line.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, file: str) -> YamlNode:
    """Parse YAML text, see `read_yaml`; `file` is its name for messages."""
    try:
        root = yaml.compose(text, yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = escape_text(chr(error.character)) if isinstance(error.character, int) else error.character
        raise UsageError(f"{file}, line {line}: not valid YAML: character {character} is not allowed") from error
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
            raise UsageError(f"{where}: aliases expand to more than {MAX_ENTRIES:,} values")
        if any(node is ancestor for ancestor in outer):
            raise UsageError(f"{where}: alias contains itself")
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
        """Return the keys and values of a mapping, those merged by `<<` first."""
        direct: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(f"{self.where(key)}: keys must be strings, not lists or mappings")
            if key.value == "<<" and key.style is None:
                for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(node, yaml.MappingNode):
                        raise UsageError(f"{self.where(key)}: `<<` requires a mapping")
                    if any(node is ancestor for ancestor in outer):
                        raise UsageError(f"{self.where(key)}: alias contains itself")
                    merged = {**{name.value: (name, of) for name, of in self.pairs(node, (*outer, node))}, **merged}
                continue
            if not key.value and key.style is None:
                raise UsageError(f"{self.where(key)}: missing key before the colon")
            if key.value in direct:
                first = direct[key.value][0].start_mark.line + 1
                raise UsageError(f"{self.where(key)}: duplicate key {key.value!r} (first in line {first})")
            direct[key.value] = key, value
        return iter({**merged, **direct}.values())

    def check_tag(self, node: yaml.Node, default: str, where: str) -> None:
        if node.tag not in (f"tag:yaml.org,2002:{default}", "!"):
            tag = escape_text(node.tag.replace("tag:yaml.org,2002:", "!!"))
            raise UsageError(f"{where}: unsupported tag {tag}; types are determined by the parameters")

    def where(self, node: yaml.Node) -> str:
        return f"{self.file}, line {node.start_mark.line + 1}"


def _parse_scalar(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return str(node.value)
    return None if node.value in NULL_SCALARS else PlainScalar(node.value)


def _deepest_line(text: str) -> int:
    """Return the line of the deepest nesting level."""
    depth = deepest = line = 0
    with suppress(yaml.YAMLError):  # may be invalid after the deepest position
        for event in yaml.parse(text, yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > deepest:
                deepest, line = depth, event.start_mark.line if event.start_mark else 0
    return line + 1
