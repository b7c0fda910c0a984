"""Settings for a tree of parameters: where each came from, and how they make a new tree.

A *setting* gives words (from a flag) or a JSON value (from a file) to one place of the tree. All
settings of one source form a `Node` tree, which `apply` turns into new parameters, parents first;
so the order in which they were given never matters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfaip_like._user_code.code_errors import CodeError, attribute
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import shell_words
from tfaip_like._utils.json_files import Json, shown
from tfaip_like._utils.yaml_files import Word
from tfaip_like.params._base import CLASS_KEY, REQUIRED, ParamsBase, Place, field_types, with_defaults
from tfaip_like.params._suggest import suggest_flag
from tfaip_like.params._tree import check_tree, flag_of
from tfaip_like.params._types import (
    check_supported,
    describe,
    dict_of,
    is_optional,
    make_sequence,
    params_bases,
    sequence_of,
)
from tfaip_like.params._values import decode, parse
from tfaip_like.params._variants import find_variant, is_abstract, variants


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
    """The settings of one place and of the paths below it."""

    setting: Setting | None = None
    children: dict[str, Node] = field(default_factory=dict)

    def at(self, place: Sequence[str]) -> Node:
        """The node at `place`, made if it is new."""
        node = self
        for part in place:
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
    origins: Mapping[Place, str] = field(default_factory=dict)


def apply(resolved: Resolved, settings: Node) -> Resolved:
    """A tree in which `settings` replace what was there.

    A setting that chooses another variant starts from that variant's own defaults.

    Raises:
        UsageError: for a name or a value that does not fit; it names the flag or the file.
    """
    applier = _Applier(root=resolved.tree, origins=dict(resolved.origins))
    tree = applier.params(resolved.tree, settings, ())
    return Resolved(tree, applier.origins)


def checked(resolved: Resolved) -> ParamsBase:
    """Return the tree once every value is checked.

    Raises:
        UsageError: for the first value that is missing or refused, by its flag and the file that gave it.
    """
    try:
        return check_tree(resolved.tree)
    except UsageError as problem:
        file = _file_of(str(problem), resolved.origins)
        if file is None:
            raise
        raise type(problem)(f"{file}: {problem}") from problem


def _file_of(problem: str, origins: Mapping[Place, str]) -> str | None:
    """Return the file that gave the value which a message is about; None if no file did."""
    match = re.match(r"--([\w.]+)", problem)
    place = tuple(match[1].split(".")) if match else ()
    origin = next((origins[place[:end]] for end in range(len(place), 0, -1) if place[:end] in origins), "")
    return origin.removeprefix("file ") if origin.startswith("file ") else None


class _Applier:
    def __init__(self, root: ParamsBase, origins: dict[Place, str]):
        self.root = root
        self.origins = origins

    def params(self, current: ParamsBase, node: Node, place: Place) -> ParamsBase:
        """`current` with the settings of its fields."""
        types = field_types(type(current))
        changes = {}
        for name, child in node.children.items():
            if name not in types:
                raise self._unknown(child, (*place, name))
            try:
                check_supported(types[name])
            except TypeError as problem:
                raise CodeError(f"{flag_of((*place, name))}: {problem}", attribute(type(current), name)) from problem
            changes[name] = self.value(types[name], getattr(current, name), child, (*place, name))
        return dataclasses.replace(current, **changes) if changes else current

    def value(self, tp: Any, current: Any, node: Node, place: Place) -> Any:
        """The value of one field after its settings."""
        if is_optional(tp) and node.setting is not None and not node.children and _means_none(node.setting):
            self._forget_origins_below(place)
            self._set_origin(place, node.setting)
            return None
        item_type = sequence_of(tp)
        if bases := params_bases(tp):
            return self.variant(tp, bases, current, _spread(node), place)
        if item_type is not None and params_bases(item_type):
            return self.sequence_of_variants(tp, item_type, current, node, place)
        if (value_type := dict_of(tp)) is not None:
            return self.dictionary(tp, value_type, current, node, place)
        if node.setting is not None:
            current = self._converted(tp, node.setting)
            self._forget_origins_below(place)
            self._set_origin(place, node.setting)
        if node.children:
            current = self.items(tp, item_type, current, node, place)
        return current

    def variant(self, tp: Any, bases: tuple[type[ParamsBase], ...], current: Any, node: Node, place: Place) -> Any:
        if node.setting is not None:
            cls = self._chosen(tp, bases, node.setting)
            self._set_origin(place, node.setting)
            if cls is None:
                current = None
            elif type(current) is not cls:
                self._forget_origins_below(place)
                current = with_defaults(cls)
                self.root = _replaced(self.root, place, current)
        if not node.children:
            return current
        if not isinstance(current, ParamsBase):
            if len(bases) > 1 or is_abstract(bases[0]):
                where = node.any_setting().where
                choices = ", ".join(variants(*bases)) or "module:Class"
                raise UsageError(f"{where}: first choose which with {flag_of(place)}: {choices}")
            current = with_defaults(bases[0])
        return self.params(current, node, place)

    def sequence_of_variants(self, tp: Any, item_type: Any, current: Any, node: Node, place: Place) -> Any:
        items = list(current) if current is not None and current is not REQUIRED else []
        if node.setting is not None:
            self._forget_origins_below(place)
            self._set_origin(place, node.setting)
            if node.setting.words is not None and (_means_none(node.setting) or list(node.setting.words) == ["[]"]):
                item_nodes = []
            elif node.setting.words is not None:
                item_nodes = [_with_words(node.setting, [word]) for word in node.setting.words]
            elif isinstance(node.setting.json, list):
                item_nodes = [_with_json(node.setting, i, value) for i, value in enumerate(node.setting.json)]
            else:
                raise UsageError(f"{node.setting.where}: expected a list of {describe(item_type)}")
            items = [
                self.value(item_type, REQUIRED, item_node, (*place, str(index)))
                for index, item_node in enumerate(item_nodes)
            ]
        for index, child in self._numbered(node, len(items), place):
            items[index] = self.value(item_type, items[index], child, (*place, str(index)))
        return make_sequence(tp, items)

    def dictionary(self, tp: Any, value_type: Any, current: Any, node: Node, place: Place) -> Any:
        if node.setting is not None:
            current = self._dictionary_from(tp, value_type, node.setting, place)
        changed = dict(current) if current is not None and current is not REQUIRED else {}
        for key, child in node.children.items():
            changed[key] = self.value(value_type, changed.get(key, REQUIRED), child, (*place, key))
        return changed if node.children else current

    def _dictionary_from(self, tp: Any, value_type: Any, setting: Setting, place: Place) -> Any:
        self._forget_origins_below(place)
        self._set_origin(place, setting)
        if not params_bases(value_type):
            return self._converted(tp, setting)
        if setting.words is not None:
            pairs = self._converted(dict[str, str], setting)
            nodes = {key: _with_words(setting, [name]) for key, name in pairs.items()}
        elif isinstance(setting.json, dict):
            nodes = {key: _with_json(setting, key, value) for key, value in setting.json.items()}
        else:
            raise UsageError(f"{setting.where}: expected NAME=VARIANT for each, got {setting.json!r}")
        return {key: self.value(value_type, REQUIRED, node, (*place, key)) for key, node in nodes.items()}

    def items(self, tp: Any, item_type: Any, current: Any, node: Node, place: Place) -> Any:
        """A list of plain values of which some are given by their index."""
        if item_type is None or not isinstance(current, (list, tuple)):
            raise self._unknown(node, (*place, next(iter(node.children))))
        items = list(current)
        for index, child in self._numbered(node, len(items), place):
            items[index] = self.value(item_type, items[index], child, (*place, str(index)))
        return type(current)(items)

    def _numbered(self, node: Node, length: int, place: Place) -> Iterator[tuple[int, Node]]:
        for key, child in node.children.items():
            if not key.isdigit() or int(key) >= length:
                given = child.any_setting().where
                valid = f"0 to {length - 1}" if length else "none, the list is empty"
                raise UsageError(f"{given}: {flag_of(place)} has no item {key!r} (items: {valid})")
            yield int(key), child

    def _chosen(self, tp: Any, bases: tuple[type[ParamsBase], ...], setting: Setting) -> type[ParamsBase] | None:
        """The class that a setting of a variant names, or None."""
        words = setting.words
        if words is None:
            words = [setting.json if isinstance(setting.json, str) else shown(setting.json)]
        if is_optional(tp) and _means_none(setting):
            return None
        if len(words) != 1:
            raise UsageError(f"{setting.where}: expected one of {describe(tp)}, got {' '.join(words) or 'nothing'}")
        try:
            return find_variant(bases, words[0], home=type(self.root).__module__)
        except UsageError as problem:
            raise type(problem)(f"{setting.where}: {problem}") from problem

    def _converted(self, tp: Any, setting: Setting) -> Any:
        try:
            return parse(tp, setting.words) if setting.words is not None else decode(tp, setting.json)
        except UsageError as problem:
            raise type(problem)(f"{setting.where}: {problem}") from problem
        except ValueError as problem:
            text = str(problem)
            if tp is bool and setting.origin == "flag":  # probably `submit --wait wide`
                words = shell_words(setting.words or ())
                text = f"expected true, false or no value, got {words}; other arguments go before flags"
            raise UsageError(f"{setting.where}: {text}") from problem

    def _set_origin(self, place: Place, setting: Setting) -> None:
        self.origins[place] = setting.origin

    def _forget_origins_below(self, place: Place) -> None:
        for known in list(self.origins):
            if len(known) > len(place) and known[: len(place)] == place:
                del self.origins[known]

    def _unknown(self, node: Node, place: Place) -> UsageError:
        return UsageError(f"{node.any_setting().where}: {suggest_flag(self.root, place)}")


def _replaced(root: Any, place: Place, value: Any) -> Any:
    """`root` with another value at a place (as far as that exists), for suggestions."""
    if not place:
        return value
    name, rest = place[0], place[1:]
    if isinstance(root, ParamsBase):
        return dataclasses.replace(root, **{name: _replaced(getattr(root, name), rest, value)})
    if isinstance(root, dict):
        return {**root, name: _replaced(root.get(name), rest, value)}
    items = list(root) if isinstance(root, (list, tuple)) else []
    items[int(name) : int(name) + 1] = [_replaced(items[int(name)] if int(name) < len(items) else None, rest, value)]
    return items


def _means_none(setting: Setting) -> bool:
    return setting.json is None if setting.words is None else [w.lower() for w in setting.words] == ["none"]


def _spread(node: Node) -> Node:
    """A JSON object for a variant as settings of the variant and its fields."""
    setting = node.setting
    if setting is None or setting.words is not None or not isinstance(setting.json, dict):
        return node
    spread = Node(children={key: _with_json(setting, key, value) for key, value in setting.json.items()})
    if CLASS_KEY in spread.children:
        named = spread.children.pop(CLASS_KEY).any_setting()
        if not isinstance(named.json, str):
            raise UsageError(f"{named.where}: expected the name of a class, got {shown(named.json)}")
        spread.setting = dataclasses.replace(named, words=[str(named.json)])
    return spread


def _with_words(setting: Setting, words: Sequence[str]) -> Node:
    return Node(dataclasses.replace(setting, words=words))


def _with_json(setting: Setting, key: object, value: Json) -> Node:
    separator = " " if setting.where.endswith(":") else "."
    words = [str(value)] if isinstance(value, Word) else None
    return Node(dataclasses.replace(setting, words=words, json=value, where=f"{setting.where}{separator}{key}"))


def file_settings(values: Json, file: str) -> Node:
    """The settings of a parameter file, whose root may name the scenario it was written for."""
    return _spread(Node(Setting(origin=f"file {file}", where=f"{file}:", json=values)))
