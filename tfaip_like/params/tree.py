"""Settings for a tree of parameters: where each came from, and how they make a new tree.

A *setting* gives words (from a flag) or a JSON value (from a file) to one path of the tree. All
settings of one source form a `Node` tree, which `apply` turns into new parameters, parents first;
so the order in which they were given never matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfaip_like.errors import UsageError
from tfaip_like.params.base import (
    CLASS_KEY,
    REQUIRED,
    FieldError,
    Json,
    ParamsBase,
    field_types,
    nested,
    with_defaults,
)
from tfaip_like.params.suggest import suggest_flag
from tfaip_like.params.types import check_supported, describe, dict_of, is_optional, params_bases, sequence_of
from tfaip_like.params.values import check_type, decode, format_words, parse
from tfaip_like.params.variants import find_variant, is_abstract, variants

Path = tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """A given value: `words` of a flag, or else `json` of a file."""

    origin: str
    """Where it came from, for `--show`: `flag`, `file base.yaml`."""
    where: str
    """How the user wrote it, to begin a message with: `--trainer.epochs`, `base.yaml: trainer.epochs`."""
    words: Sequence[str] | None = None
    json: Json = None


@dataclass
class Node:
    """The settings of one path and of the paths below it."""

    setting: Setting | None = None
    children: dict[str, Node] = field(default_factory=dict)

    def at(self, path: Sequence[str]) -> Node:
        """The node at `path`, made if it is new."""
        node = self
        for part in path:
            node = node.children.setdefault(part, Node())
        return node

    def any_setting(self) -> Setting:
        """The setting of this node or of one below it."""
        if self.setting is not None:
            return self.setting
        return next(iter(self.children.values())).any_setting()


@dataclass(frozen=True)
class Resolved:
    """A tree and, for each of its paths that was set, where the value came from."""

    tree: ParamsBase
    origins: Mapping[Path, str] = field(default_factory=dict)


def apply(resolved: Resolved, settings: Node) -> Resolved:
    """A tree in which `settings` replace what was there.

    A setting that chooses another variant starts from that variant's own defaults.

    Raises:
        UsageError: for a name or a value that does not fit; it names the flag or the file.
    """
    applier = _Applier(root=resolved.tree, origins=dict(resolved.origins))
    tree = applier.params(resolved.tree, settings, ())
    return Resolved(tree, applier.origins)


class _Applier:
    def __init__(self, root: ParamsBase, origins: dict[Path, str]):
        self.root = root
        self.origins = origins

    def params(self, current: ParamsBase, node: Node, path: Path) -> ParamsBase:
        """`current` with the settings of its fields."""
        types = field_types(type(current))
        changes = {}
        for name, child in node.children.items():
            if name not in types:
                raise self._unknown(child, (*path, name))
            changes[name] = self.value(types[name], getattr(current, name), child, (*path, name))
        return dataclasses.replace(current, **changes) if changes else current

    def value(self, tp: Any, current: Any, node: Node, path: Path) -> Any:
        """The value of one field after its settings."""
        item_type = sequence_of(tp)
        if bases := params_bases(tp):
            return self.variant(tp, bases, current, _spread(node), path)
        if item_type is not None and params_bases(item_type):
            return self.sequence_of_variants(tp, item_type, current, node, path)
        if (value_type := dict_of(tp)) is not None:
            return self.dictionary(tp, value_type, current, node, path)
        if node.setting is not None:
            current = self._converted(tp, node.setting)
            self._set_origin(path, node.setting)
        if node.children:
            current = self.items(tp, item_type, current, node, path)
        return current

    def variant(self, tp: Any, bases: tuple[type[ParamsBase], ...], current: Any, node: Node, path: Path) -> Any:
        if node.setting is not None:
            cls = self._chosen(tp, bases, node.setting)
            self._set_origin(path, node.setting)
            if cls is None:
                current = None
            elif type(current) is not cls:
                self._forget_origins_below(path)
                current = with_defaults(cls)
        if not node.children:
            return current
        if not isinstance(current, ParamsBase):
            if len(bases) > 1 or is_abstract(bases[0]):
                where = node.any_setting().where
                choices = ", ".join(variants(*bases)) or "module:Class"
                raise UsageError(f"{where}: first choose which with {_flag(path)}: {choices}")
            current = with_defaults(bases[0])
        return self.params(current, node, path)

    def sequence_of_variants(self, tp: Any, item_type: Any, current: Any, node: Node, path: Path) -> Any:
        items = list(current) if current is not None and current is not REQUIRED else []
        if node.setting is not None:
            self._forget_origins_below(path)
            self._set_origin(path, node.setting)
            if node.setting.words is not None:
                item_nodes = [_with_words(node.setting, [word]) for word in node.setting.words]
            elif isinstance(node.setting.json, list):
                item_nodes = [_with_json(node.setting, i, value) for i, value in enumerate(node.setting.json)]
            else:
                raise UsageError(f"{node.setting.where}: expected a list of {describe(item_type)}")
            items = [
                self.value(item_type, REQUIRED, item_node, (*path, str(index)))
                for index, item_node in enumerate(item_nodes)
            ]
        for index, child in self._numbered(node, len(items), path):
            items[index] = self.value(item_type, items[index], child, (*path, str(index)))
        return tuple(items) if isinstance(current, tuple) else items

    def dictionary(self, tp: Any, value_type: Any, current: Any, node: Node, path: Path) -> Any:
        if node.setting is not None:
            current = self._dictionary_from(tp, value_type, node.setting, path)
        changed = dict(current) if current is not None and current is not REQUIRED else {}
        for key, child in node.children.items():
            changed[key] = self.value(value_type, changed.get(key, REQUIRED), child, (*path, key))
        return changed if node.children else current

    def _dictionary_from(self, tp: Any, value_type: Any, setting: Setting, path: Path) -> Any:
        self._forget_origins_below(path)
        self._set_origin(path, setting)
        if not params_bases(value_type):
            return self._converted(tp, setting)
        if setting.words is not None:
            pairs = parse(dict[str, str], setting.words)
            nodes = {key: _with_words(setting, [name]) for key, name in pairs.items()}
        elif isinstance(setting.json, dict):
            nodes = {key: _with_json(setting, key, value) for key, value in setting.json.items()}
        else:
            raise UsageError(f"{setting.where}: expected NAME=VARIANT for each, got {setting.json!r}")
        return {key: self.value(value_type, REQUIRED, node, (*path, key)) for key, node in nodes.items()}

    def items(self, tp: Any, item_type: Any, current: Any, node: Node, path: Path) -> Any:
        """A list of plain values of which some are given by their index."""
        if item_type is None or not isinstance(current, (list, tuple)):
            raise self._unknown(node, (*path, next(iter(node.children))))
        items = list(current)
        for index, child in self._numbered(node, len(items), path):
            items[index] = self.value(item_type, items[index], child, (*path, str(index)))
        return type(current)(items)

    def _numbered(self, node: Node, length: int, path: Path) -> Iterator[tuple[int, Node]]:
        for key, child in node.children.items():
            if not key.isdigit() or int(key) >= length:
                given = child.any_setting().where
                valid = f"0 to {length - 1}" if length else "none, the list is empty"
                raise UsageError(f"{given}: {_flag(path)} has no item {key!r} (items: {valid})")
            yield int(key), child

    def _chosen(self, tp: Any, bases: tuple[type[ParamsBase], ...], setting: Setting) -> type[ParamsBase] | None:
        """The class that a setting of a variant names, or None."""
        words = setting.words if setting.words is not None else [str(setting.json)]
        if len(words) == 1 and words[0].lower() == "none" and is_optional(tp):
            return None
        if len(words) != 1:
            raise UsageError(f"{setting.where}: expected one of {describe(tp)}, got {' '.join(words) or 'nothing'}")
        try:
            return find_variant(bases, words[0])
        except UsageError as problem:
            raise UsageError(f"{setting.where}: {problem}") from problem

    def _converted(self, tp: Any, setting: Setting) -> Any:
        try:
            return parse(tp, setting.words) if setting.words is not None else decode(tp, setting.json)
        except (ValueError, UsageError) as problem:
            raise UsageError(f"{setting.where}: {problem}") from problem

    def _set_origin(self, path: Path, setting: Setting) -> None:
        self.origins[path] = setting.origin

    def _forget_origins_below(self, path: Path) -> None:
        for known in list(self.origins):
            if len(known) > len(path) and known[: len(path)] == path:
                del self.origins[known]

    def _unknown(self, node: Node, path: Path) -> UsageError:
        return UsageError(f"{node.any_setting().where}: {suggest_flag(self.root, path)}")


def _spread(node: Node) -> Node:
    """A JSON object for a variant as settings of the variant and its fields."""
    setting = node.setting
    if setting is None or setting.words is not None or not isinstance(setting.json, dict):
        if setting is not None and setting.words is None and setting.json is None:
            return Node(dataclasses.replace(setting, words=["none"]), node.children)
        return node
    spread = Node(children={key: _with_json(setting, key, value) for key, value in setting.json.items()})
    if CLASS_KEY in spread.children:
        spread.setting = dataclasses.replace(setting, words=[str(setting.json[CLASS_KEY])])
        del spread.children[CLASS_KEY]
    return spread


def _with_words(setting: Setting, words: Sequence[str]) -> Node:
    return Node(dataclasses.replace(setting, words=words))


def _with_json(setting: Setting, key: object, value: Json) -> Node:
    separator = " " if setting.where.endswith(":") else "."
    return Node(dataclasses.replace(setting, words=None, json=value, where=f"{setting.where}{separator}{key}"))


def file_settings(values: Json, file: str) -> Node:
    """The settings of a parameter file, whose root may name the scenario it was written for."""
    return _spread(Node(Setting(origin=f"file {file}", where=f"{file}:", json=values)))


def check_tree(tree: ParamsBase) -> None:
    """Checks every value of a finished tree: required, of its type, and accepted by its class.

    Raises:
        UsageError: for the first value that is missing or refused, by its flag.
    """
    for path, params in nested(tree):
        for name, tp in field_types(type(params)).items():
            value = getattr(params, name)
            try:
                check_supported(tp)
                check_type(tp, value)
            except (ValueError, TypeError, UsageError) as problem:
                raise UsageError(f"{_flag((*path, name))}: {problem}") from problem
            if value is REQUIRED:
                raise UsageError(f"{_flag((*path, name))} is required ({describe(tp)})")
        try:
            params.check()
        except FieldError as problem:
            tp, value = field_types(type(params))[problem.field], getattr(params, problem.field)
            raise UsageError(
                f"{_flag((*path, problem.field))} {format_words(tp, value)}: {problem.message}"
            ) from problem


@dataclass(frozen=True)
class Leaf:
    """One parameter of a tree."""

    path: Path
    type: Any
    value: Any
    owner: type[ParamsBase]

    @property
    def flag(self) -> str:
        return _flag(self.path)

    @property
    def is_variant(self) -> bool:
        """Whether its value is itself a tree of parameters."""
        return isinstance(self.value, ParamsBase) or bool(params_bases(self.type))


def leaves(tree: ParamsBase, path: Path = ()) -> Iterator[Leaf]:
    """Every parameter of a tree with its current value; a variant comes before its parts."""
    for name, tp in field_types(type(tree)).items():
        value = getattr(tree, name)
        here = (*path, name)
        yield Leaf(here, tp, value, type(tree))
        for part, part_value in _parts(value):
            if isinstance(part_value, ParamsBase):
                yield from leaves(part_value, (*here, *part))


def _parts(value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, ParamsBase):
        yield (), value
    elif isinstance(value, (list, tuple)):
        yield from (((str(index),), item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from (((str(key),), item) for key, item in value.items())


def difference(old: ParamsBase, new: ParamsBase) -> list[tuple[str, str, str]]:
    """The flags whose values differ, with the old and the new value as words (`-` where it has none)."""
    before, after = ({leaf.flag: format_words(leaf.type, leaf.value) for leaf in leaves(tree)} for tree in (old, new))
    flags = [*before, *(flag for flag in after if flag not in before)]
    changes = [(flag, before.get(flag, "-"), after.get(flag, "-")) for flag in flags]
    return [change for change in changes if change[1] != change[2]]


def changed_flags(tree: ParamsBase) -> dict[str, str]:
    """The flags whose values are not the defaults of the root's class, with those values as words."""
    return {flag: new for flag, _, new in difference(with_defaults(type(tree)), tree)}


def _flag(path: Path) -> str:
    return "--" + ".".join(path)
