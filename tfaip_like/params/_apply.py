"""Application of settings from flags and files to a parameter tree, with the origin of each value.

A *setting* assigns words (from a flag) or a JSON value (from a file) to one path of the tree. The settings of one
source form a `SettingsNode` tree, which `apply_settings` applies parents first, so their order does not matter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfaip_like._user_code.code_errors import CodeError, attribute_frame
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import shell_join
from tfaip_like._utils.json_files import Json, short_json
from tfaip_like._utils.yaml_files import PlainScalar
from tfaip_like.params._base import (
    CLASS_KEY,
    REQUIRED,
    SCHEMA_KEY,
    ParamPath,
    ParamsBase,
    default_instance,
    field_types,
)
from tfaip_like.params._renamed import current_names
from tfaip_like.params._suggest import suggest_flag
from tfaip_like.params._tree import path_to_flag, validate_params
from tfaip_like.params._types import (
    check_type_supported,
    dict_value_type,
    is_optional,
    make_sequence,
    params_classes,
    sequence_item_type,
    type_metavar,
)
from tfaip_like.params._values import decode_value, parse_value
from tfaip_like.params._variants import find_variant, is_abstract, variant_names


@dataclass(frozen=True)
class Setting:
    """Value from a flag (`words`) or a file (`json`)."""

    origin: str
    """Origin shown by `--show`: `flag`, `file base.yaml`."""
    where: str
    """Location for error messages: `--trainer.epochs`, `base.yaml: trainer.epochs`."""
    words: Sequence[str] | None = None
    json: Json = None


@dataclass
class SettingsNode:
    """Settings of one path and of the paths below it."""

    setting: Setting | None = None
    children: dict[str, SettingsNode] = field(default_factory=dict)

    def at(self, path: Sequence[str]) -> SettingsNode:
        """Return the node at `path`, creating it if necessary."""
        node = self
        for part in path:
            node = node.children.setdefault(part, SettingsNode())
        return node

    def first_setting(self) -> Setting:
        """Return the setting of this node, or the first one below it."""
        if self.setting is not None:
            return self.setting
        return next(iter(self.children.values())).first_setting()


@dataclass(frozen=True)
class ResolvedParams:
    """Parameter tree with the origin of each value that is not a default."""

    tree: ParamsBase
    origins: Mapping[ParamPath, str] = field(default_factory=dict)


def apply_settings(resolved: ResolvedParams, settings: SettingsNode) -> ResolvedParams:
    """Return a tree with settings applied.

    A setting that selects another variant resets the variant's parameters to its defaults.

    Args:
        resolved: tree to start from, with the origins of its values.
        settings: new values.

    Raises:
        UsageError: for an unknown parameter or an invalid value; names the flag or the file.
    """
    applier = _SettingsApplier(root=resolved.tree, origins=dict(resolved.origins))
    tree = applier.apply_params(resolved.tree, settings, ())
    return ResolvedParams(tree, applier.origins)


def validate_resolved(resolved: ResolvedParams) -> ParamsBase:
    """Return the tree after validating every value.

    Raises:
        UsageError: for the first missing or invalid value; names its flag, and the file if it came from one.
    """
    try:
        return validate_params(resolved.tree)
    except UsageError as problem:
        file = _find_origin_file(str(problem), resolved.origins)
        if file is None:
            raise
        raise type(problem)(f"{file}: {problem}") from problem


def _find_origin_file(problem: str, origins: Mapping[ParamPath, str]) -> str | None:
    """Return the file that set the parameter which a message starts with, or None."""
    match = re.match(r"--([\w.]+)", problem)
    path = tuple(match[1].split(".")) if match else ()
    origin = next((origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in origins), "")
    return origin.removeprefix("file ") if origin.startswith("file ") else None


class _SettingsApplier:
    def __init__(self, root: ParamsBase, origins: dict[ParamPath, str]):
        self.root = root
        self.origins = origins

    def apply_params(self, current: ParamsBase, node: SettingsNode, path: ParamPath) -> ParamsBase:
        """Return `current` with the settings of its fields applied."""
        types = field_types(type(current))
        changes = {}
        for name, child in self._children_by_field(type(current), node, path).items():
            if name not in types:
                raise self._unknown_flag_error(child, (*path, name))
            try:
                check_type_supported(types[name])
            except TypeError as problem:
                raise CodeError(
                    f"{path_to_flag((*path, name))}: {problem}", attribute_frame(type(current), name)
                ) from problem
            changes[name] = self.apply_value(types[name], getattr(current, name), child, (*path, name))
        return dataclasses.replace(current, **changes) if changes else current

    def _children_by_field(self, cls: type[ParamsBase], node: SettingsNode, path: ParamPath) -> dict[str, SettingsNode]:
        """Return the settings of the fields of a class, also those under a former name."""
        names = current_names(
            cls,
            node.children,
            lambda name: node.children[name].first_setting().where,
            lambda name: path_to_flag((*path, name)),
        )
        return {names[given]: child for given, child in node.children.items()}

    def apply_value(self, tp: Any, current: Any, node: SettingsNode, path: ParamPath) -> Any:
        """Return the value of one field after its settings."""
        if is_optional(tp) and node.setting is not None and not node.children and _is_none_setting(node.setting):
            self._clear_origins_below(path)
            self._set_origin(path, node.setting)
            return None
        item_type = sequence_item_type(tp)
        if bases := params_classes(tp):
            return self.apply_variant(tp, bases, current, _expand_object(node), path)
        if item_type is not None and params_classes(item_type):
            return self.apply_variant_list(tp, item_type, current, node, path)
        if (value_type := dict_value_type(tp)) is not None:
            return self.apply_dictionary(tp, value_type, current, node, path)
        if node.setting is not None:
            current = self._convert(tp, node.setting)
            self._clear_origins_below(path)
            self._set_origin(path, node.setting)
        if node.children:
            current = self.apply_items(tp, item_type, current, node, path)
        return current

    def apply_variant(
        self, tp: Any, bases: tuple[type[ParamsBase], ...], current: Any, node: SettingsNode, path: ParamPath
    ) -> Any:
        if node.setting is not None:
            cls = self._select_variant_class(tp, bases, node.setting)
            self._set_origin(path, node.setting)
            if cls is None:
                current = None
            elif type(current) is not cls:
                self._clear_origins_below(path)
                current = default_instance(cls)
                self.root = _replace_at(self.root, path, current)
        if not node.children:
            return current
        if not isinstance(current, ParamsBase):
            if len(bases) > 1 or is_abstract(bases[0]):
                where = node.first_setting().where
                choices = ", ".join(variant_names(*bases)) or "module:Class"
                raise UsageError(f"{where}: requires {path_to_flag(path)}; choose one of {choices}")
            current = default_instance(bases[0])
        return self.apply_params(current, node, path)

    def apply_variant_list(self, tp: Any, item_type: Any, current: Any, node: SettingsNode, path: ParamPath) -> Any:
        items = list(current) if current is not None and current is not REQUIRED else []
        if node.setting is not None:
            self._clear_origins_below(path)
            self._set_origin(path, node.setting)
            if node.setting.words is not None and (
                _is_none_setting(node.setting) or list(node.setting.words) == ["[]"]
            ):
                item_nodes = []
            elif node.setting.words is not None:
                item_nodes = [_words_node(node.setting, [word]) for word in node.setting.words]
            elif isinstance(node.setting.json, list):
                item_nodes = [_json_node(node.setting, i, value) for i, value in enumerate(node.setting.json)]
            else:
                raise UsageError(f"{node.setting.where}: expected a list of {type_metavar(item_type)}")
            items = [
                self.apply_value(item_type, REQUIRED, item_node, (*path, str(index)))
                for index, item_node in enumerate(item_nodes)
            ]
        for index, child in self._iter_indexed_nodes(node, len(items), path):
            items[index] = self.apply_value(item_type, items[index], child, (*path, str(index)))
        return make_sequence(tp, items)

    def apply_dictionary(self, tp: Any, value_type: Any, current: Any, node: SettingsNode, path: ParamPath) -> Any:
        if node.setting is not None:
            current = self._dict_from_setting(tp, value_type, node.setting, path)
        changed = dict(current) if current is not None and current is not REQUIRED else {}
        for key, child in node.children.items():
            changed[key] = self.apply_value(value_type, changed.get(key, REQUIRED), child, (*path, key))
        return changed if node.children else current

    def _dict_from_setting(self, tp: Any, value_type: Any, setting: Setting, path: ParamPath) -> Any:
        self._clear_origins_below(path)
        self._set_origin(path, setting)
        if not params_classes(value_type):
            return self._convert(tp, setting)
        if setting.words is not None:
            pairs = self._convert(dict[str, str], setting)
            nodes = {key: _words_node(setting, [name]) for key, name in pairs.items()}
        elif isinstance(setting.json, dict):
            nodes = {key: _json_node(setting, key, value) for key, value in setting.json.items()}
        else:
            raise UsageError(f"{setting.where}: expected a mapping of names to variants, got {setting.json!r}")
        return {key: self.apply_value(value_type, REQUIRED, node, (*path, key)) for key, node in nodes.items()}

    def apply_items(self, tp: Any, item_type: Any, current: Any, node: SettingsNode, path: ParamPath) -> Any:
        """Return a list of plain values with the items set by index replaced."""
        if item_type is None or not isinstance(current, (list, tuple)):
            raise self._unknown_flag_error(node, (*path, next(iter(node.children))))
        items = list(current)
        for index, child in self._iter_indexed_nodes(node, len(items), path):
            items[index] = self.apply_value(item_type, items[index], child, (*path, str(index)))
        return type(current)(items)

    def _iter_indexed_nodes(
        self, node: SettingsNode, length: int, path: ParamPath
    ) -> Iterator[tuple[int, SettingsNode]]:
        for key, child in node.children.items():
            if not key.isdigit() or int(key) >= length:
                where = child.first_setting().where
                valid = f"valid: 0 to {length - 1}" if length else "the list is empty"
                raise UsageError(f"{where}: {path_to_flag(path)} has no item {key!r} ({valid})")
            yield int(key), child

    def _select_variant_class(
        self, tp: Any, bases: tuple[type[ParamsBase], ...], setting: Setting
    ) -> type[ParamsBase] | None:
        """Return the class that a setting of a variant selects; None for `none`."""
        words = setting.words
        if words is None:
            words = [setting.json if isinstance(setting.json, str) else short_json(setting.json)]
        if is_optional(tp) and _is_none_setting(setting):
            return None
        if len(words) != 1:
            raise UsageError(f"{setting.where}: expected one of {type_metavar(tp)}, got {' '.join(words) or 'nothing'}")
        try:
            return find_variant(bases, words[0], home=type(self.root).__module__)
        except UsageError as problem:
            raise type(problem)(f"{setting.where}: {problem}") from problem

    def _convert(self, tp: Any, setting: Setting) -> Any:
        try:
            return parse_value(tp, setting.words) if setting.words is not None else decode_value(tp, setting.json)
        except UsageError as problem:
            raise type(problem)(f"{setting.where}: {problem}") from problem
        except ValueError as problem:
            text = str(problem)
            if tp is bool and setting.origin == "flag":  # probably `submit --wait wide`
                words = shell_join(setting.words or ())
                text = f"expected true, false or no value, got {words}; other arguments go before flags"
            raise UsageError(f"{setting.where}: {text}") from problem

    def _set_origin(self, path: ParamPath, setting: Setting) -> None:
        self.origins[path] = setting.origin

    def _clear_origins_below(self, path: ParamPath) -> None:
        for known in list(self.origins):
            if len(known) > len(path) and known[: len(path)] == path:
                del self.origins[known]

    def _unknown_flag_error(self, node: SettingsNode, path: ParamPath) -> UsageError:
        return UsageError(f"{node.first_setting().where}: {suggest_flag(self.root, path)}")


def _replace_at(root: Any, path: ParamPath, value: Any) -> Any:
    """Return `root` with the value at a path replaced, as far as the path exists, for suggestions."""
    if not path:
        return value
    name, rest = path[0], path[1:]
    if isinstance(root, ParamsBase):
        return dataclasses.replace(root, **{name: _replace_at(getattr(root, name), rest, value)})
    if isinstance(root, dict):
        return {**root, name: _replace_at(root.get(name), rest, value)}
    items = list(root) if isinstance(root, (list, tuple)) else []
    items[int(name) : int(name) + 1] = [_replace_at(items[int(name)] if int(name) < len(items) else None, rest, value)]
    return items


def _is_none_setting(setting: Setting) -> bool:
    return setting.json is None if setting.words is None else [w.lower() for w in setting.words] == ["none"]


def _expand_object(node: SettingsNode) -> SettingsNode:
    """Expand a JSON object for a variant into settings of the variant and its fields."""
    setting = node.setting
    if setting is None or setting.words is not None or not isinstance(setting.json, dict):
        return node
    expanded = SettingsNode(children={key: _json_node(setting, key, value) for key, value in setting.json.items()})
    if CLASS_KEY in expanded.children:
        tag = expanded.children.pop(CLASS_KEY).first_setting()
        if not isinstance(tag.json, str):
            raise UsageError(f"{tag.where}: expected a class name, got {short_json(tag.json)}")
        expanded.setting = dataclasses.replace(tag, words=[str(tag.json)])
    return expanded


def _words_node(setting: Setting, words: Sequence[str]) -> SettingsNode:
    return SettingsNode(dataclasses.replace(setting, words=words))


def _json_node(setting: Setting, key: object, value: Json) -> SettingsNode:
    separator = " " if setting.where.endswith(":") else "."
    words = [str(value)] if isinstance(value, PlainScalar) else None
    return SettingsNode(dataclasses.replace(setting, words=words, json=value, where=f"{setting.where}{separator}{key}"))


def settings_from_file(values: Json, file: str) -> SettingsNode:
    """Return the settings of a parameter file, whose root may name its scenario class and its schema.

    Args:
        values: content of the file.
        file: its name, for messages and `--show`.
    """
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != SCHEMA_KEY}
    return _expand_object(SettingsNode(Setting(origin=f"file {file}", where=f"{file}:", json=values)))
