"""Help output: flags with values and help texts, flag search, `--show` and shell completion."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tfaip_like._utils.terminal import DEFAULT_COLUMNS
from tfaip_like.params._apply import ResolvedParams
from tfaip_like.params._base import REQUIRED, ParamPath, ParamsBase, default_instance, get_search_words
from tfaip_like.params._docs import class_summary, field_docs
from tfaip_like.params._formatting import format_flag, format_value
from tfaip_like.params._suggest import iter_other_variants
from tfaip_like.params._tree import Leaf, iter_leaves, path_to_flag
from tfaip_like.params._types import is_optional, params_classes, sequence_item_type, type_choices, type_metavar
from tfaip_like.params._variants import available_variants, is_abstract, pending_plugins, variant_names

INDENT = "      "


@dataclass
class FlagGroup:
    """Flags of a root field of a tree."""

    name: str
    """Name of the field; empty for the plain fields of the root."""
    title: str = ""
    leaves: list[Leaf] = field(default_factory=list)

    def format(self) -> str:
        """Format all flags of the group."""
        title = _wrap_lines(f"{self.name}: {self.title}") if self.name else []
        return "\n".join([*title, *(line for leaf in self.leaves for line in _format_flag_help(leaf))])


def group_flags(tree: ParamsBase, exclude: Container[str] = ()) -> dict[str, FlagGroup]:
    """Return the flags of a tree by group, the plain flags of the root first.

    Args:
        tree: parameter tree.
        exclude: names of root fields to omit.
    """
    groups = {"": FlagGroup("")}
    for leaf in iter_leaves(tree):
        name = leaf.path[0]
        if name in exclude:
            continue
        if len(leaf.path) == 1 and _classes(leaf):
            summary = class_summary(type(leaf.value)) if isinstance(leaf.value, ParamsBase) else ""
            groups[name] = FlagGroup(name, field_docs(leaf.owner).get(name) or summary)
        if not _has_single_choice(leaf):
            groups.get(name, groups[""]).leaves.append(leaf)
    return {name: group for name, group in groups.items() if group.leaves}


def format_groups(groups: Iterable[FlagGroup]) -> str:
    """Format all flags of some groups."""
    return "\n\n".join(group.format() for group in groups)


def format_overview(groups: Mapping[str, FlagGroup], shown: Collection[str], common: Collection[str]) -> str:
    """Format the flags that are specific to a tree and those that everyone needs, and list the groups of the others.

    Args:
        groups: all groups.
        shown: names of the groups that are specific to the tree, without the flags that all classes of a kind have.
        common: flags that everyone needs, without dashes.
    """
    listed = [_without_inherited(groups[name]) for name in shown if name in groups]
    flags = {leaf.flag.removeprefix("--"): leaf for group in groups.values() for leaf in group.leaves}
    listed.append(FlagGroup("common", "flags that most runs set", [flags[flag] for flag in common if flag in flags]))
    known = {leaf.flag for group in listed for leaf in group.leaves}
    others = [
        FlagGroup(group.name, group.title, leaves)
        for group in groups.values()
        if (leaves := [leaf for leaf in group.leaves if leaf.flag not in known])
    ]
    further = ["further flags, by group:", *_format_group_list(others)]
    return "\n\n".join([format_groups(group for group in listed if group.leaves), "\n".join(further)])


def _without_inherited(group: FlagGroup) -> FlagGroup:
    """Return a group without the flags that an abstract class of this package declares, such as those of any model."""
    return FlagGroup(group.name, group.title, [leaf for leaf in group.leaves if not _is_inherited(leaf)])


def _is_inherited(leaf: Leaf) -> bool:
    name = leaf.path[-1]
    declaring = next((cls for cls in leaf.owner.__mro__ if name in inspect.get_annotations(cls)), leaf.owner)
    return declaring.__module__.startswith(f"{__name__.partition('.')[0]}.") and is_abstract(declaring)


def _format_group_list(groups: Sequence[FlagGroup]) -> list[str]:
    width = max(len(group.name) for group in groups)
    lines = []
    for group in groups:
        head = f"  {group.name:<{width}}  {len(group.leaves):>2}  "
        lines.append(head + textwrap.shorten(group.title, _line_width() - len(head), placeholder=" ..."))
    return lines


def _has_single_choice(leaf: Leaf) -> bool:
    """Return whether only one class can be chosen for a field, which then needs no flag."""
    one_class = leaf.is_variant and len(variant_names(*_classes(leaf))) == 1 and isinstance(leaf.value, ParamsBase)
    return one_class and not is_optional(leaf.type)


def _classes(leaf: Leaf) -> tuple[type[ParamsBase], ...]:
    """Return the classes of which a field, or an item of it, can be a variant."""
    item_type = sequence_item_type(leaf.type)
    return params_classes(item_type if item_type is not None else leaf.type)


def _format_flag_help(leaf: Leaf) -> list[str]:
    words = format_value(leaf.type, leaf.value) if leaf.value or not isinstance(leaf.value, (list, dict)) else ""
    value = "(required)" if leaf.value is REQUIRED else f"[{words}]"
    head = f"  {leaf.flag} {type_metavar(leaf.type)}  {value}"
    lines = [head] if len(head) <= _line_width() else _wrap_head(head)
    text = _field_doc(leaf)
    if leaf.is_variant and len(leaf.path) == 1:
        text = ""  # shown as the title of the group
    if isinstance(leaf.value, ParamsBase) and len(variant_names(*_classes(leaf))) > 1:
        chosen = class_summary(type(leaf.value))
        text = f"{text} {type(leaf.value).__name__}: {chosen}".strip() if chosen else text
    if plugins := pending_plugins(*_classes(leaf)):
        text = f"{text} Plug-ins: {', '.join(f'{plugin.name} ({plugin.package})' for plugin in plugins)}.".strip()
    return lines + _wrap(text)


def _wrap_head(head: str) -> list[str]:
    return textwrap.wrap(head, _line_width(), subsequent_indent=INDENT, break_on_hyphens=False)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _line_width(), initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def wrap_terms(lines: Iterable[str], width: int) -> str:
    """Return lines of a term and its explanation, wrapped at the width of the help.

    Args:
        lines: lines such as `"--show             print every value"`.
        width: column at which the explanations begin.
    """
    indent = " " * (2 + width)
    wrapped = (textwrap.fill(f"  {line}", _line_width(), subsequent_indent=indent) for line in lines)
    return "\n".join(wrapped)


def wrap_paragraphs(text: str) -> str:
    """Return a text whose lines are wrapped at the width of the help."""
    return "\n".join("\n".join(_wrap_lines(line)) for line in text.splitlines())


def _wrap_lines(text: str) -> list[str]:
    return textwrap.wrap(text, _line_width(), break_on_hyphens=False)


def _line_width() -> int:
    return min(shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns, 120)


# Search.


@dataclass
class FlagMatch:
    """Result of a flag search."""

    leaf: Leaf
    choice: str = ""
    """Flag that selects the variant it belongs to; empty if that variant is already selected."""
    variants: list[str] = field(default_factory=list)
    """Names of the variants that have the flag."""


def search_flags(tree: ParamsBase, word: str) -> list[FlagMatch]:
    """Find the flags whose name, choices or help text contain `word`: those of the tree, then those of other variants.

    Args:
        tree: parameter tree.
        word: text to search for, case-insensitive; leading dashes are ignored.
    """
    wanted = word.lower().lstrip("-")
    found: dict[tuple[str, str], FlagMatch] = {}
    for leaf in iter_leaves(tree):
        found[(leaf.flag, _field_doc(leaf))] = FlagMatch(leaf)
    for choice, path, cls in _unselected_variants(tree):
        for leaf in iter_leaves(default_instance(cls), path):
            match = found.setdefault((leaf.flag, _field_doc(leaf)), FlagMatch(leaf, choice))
            match.variants.append(cls.__name__)
    return [
        match
        for match in found.values()
        if not _has_single_choice(match.leaf) and wanted in _searchable_text(match.leaf)
    ]


def _unselected_variants(tree: ParamsBase) -> Iterator[tuple[str, ParamPath, type[ParamsBase]]]:
    """Yield the variants not selected in a tree: flag that selects it, its path in the tree, and its class."""
    for path, cls, _ in iter_other_variants(tree):
        yield path_to_flag(path), path, cls
    for leaf in iter_leaves(tree):
        item_type = sequence_item_type(leaf.type)
        if item_type is not None and not leaf.value:  # an empty list
            for cls in available_variants(*params_classes(item_type)).values():
                yield leaf.flag, (*leaf.path, "0"), cls


def _searchable_text(leaf: Leaf) -> str:
    """Return the name, the choices, the names in other frameworks and the text of a flag, in lower case."""
    words = get_search_words(leaf.owner, leaf.path[-1])
    return " ".join([leaf.flag, type_metavar(leaf.type), *words, _field_doc(leaf)]).lower()


def format_search_results(tree: ParamsBase, word: str) -> str:
    """Format the output of `--help WORD`."""
    matches = search_flags(tree, word)
    if not matches:
        return f"no flags match {word!r}; run --help all to list all flags"
    lines: list[str] = []
    for match in matches:
        lines += _format_flag_help(match.leaf)
        if match.choice:
            lines += _wrap(f"(with {match.choice} {' or '.join(match.variants)})")
    return "\n".join(lines)


def _field_doc(leaf: Leaf) -> str:
    return field_docs(leaf.owner).get(leaf.path[-1], "")


# Where values came from.


def format_resolved_params(resolved: ResolvedParams) -> str:
    """Format every value as a flag with its origin: the output of `--show`."""
    rows = [
        (
            format_flag(leaf.flag, leaf.type, leaf.value),
            _find_origin(resolved.origins, leaf.path, leaf.is_variant),
        )
        for leaf in iter_leaves(resolved.tree)
        if not _has_single_choice(leaf)
    ]
    width = min(max(len(text) for text, _ in rows), 70)
    return "\n".join(f"{text:<{width}}  # {origin}" for text, origin in rows)


def _find_origin(origins: Mapping[ParamPath, str], path: ParamPath, is_variant: bool) -> str:
    if path in origins:
        return origins[path]
    # A list or dict of plain values, some of which were set by index or key.
    item_origins = [origin for known, origin in origins.items() if known[: len(path)] == path]
    return item_origins[0] if item_origins and not is_variant else "default"


# Completion.


def complete_words(tree: ParamsBase, words: list[str]) -> list[str]:
    """Return the completions of the last of `words`: flags, or the choices of the flag before it.

    Args:
        tree: parameter tree.
        words: words of the command line; the last may be incomplete or empty.
    """
    last = words[-1] if words else ""
    flag = next((word for word in reversed(words[:-1]) if word.startswith("--")), None)
    by_flag = {leaf.flag: leaf for leaf in iter_leaves(tree)}
    if last.startswith("-") or flag is None or flag not in by_flag:
        names = [leaf.flag for leaf in by_flag.values() if not _has_single_choice(leaf)]
        return [name for name in names if name.startswith(last)]
    leaf = by_flag[flag]
    return [choice for choice in type_choices(leaf.type) if choice.startswith(last)]
