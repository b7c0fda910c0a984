"""Help output: flags with values and help texts, flag search, `--show` and shell completion."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from tfaip_like.params._apply import ResolvedParams
from tfaip_like.params._base import REQUIRED, ParamPath, ParamsBase, default_instance, get_search_words
from tfaip_like.params._docs import class_summary, field_docs
from tfaip_like.params._formatting import format_flag, format_value
from tfaip_like.params._suggest import iter_other_variants
from tfaip_like.params._tree import Leaf, iter_leaves, path_to_flag
from tfaip_like.params._types import is_optional, params_classes, sequence_item_type, type_choices, type_metavar
from tfaip_like.params._variants import available_variants, pending_plugins, variant_names

INDENT = "      "


def format_help(tree: ParamsBase, exclude: Container[str] = ()) -> str:
    """Format all flags of a tree in groups: plain flags of the root first, then one group per root field.

    Args:
        tree: parameter tree.
        exclude: names of root fields to omit.
    """
    groups: dict[str, list[Leaf]] = {}
    for leaf in iter_leaves(tree):
        if leaf.path[0] in exclude:
            continue
        root_is_plain = len(leaf.path) == 1 and not leaf.is_variant
        groups.setdefault("" if root_is_plain else leaf.path[0], []).append(leaf)
    return "\n\n".join(_format_group(name, groups[name]) for name in sorted(groups, key=lambda name: name != ""))


def _format_group(name: str, group: list[Leaf]) -> str:
    leaf = group[0]
    title = class_summary(type(leaf.value)) if isinstance(leaf.value, ParamsBase) else ""
    lines = [f"{name}: {field_docs(leaf.owner).get(name) or title}"] if name else []
    lines += [text for leaf in group if not _has_single_choice(leaf) for text in _format_flag_help(leaf)]
    return "\n".join(lines)


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
    lines = [head] if len(head) <= _line_width() else textwrap.wrap(head, _line_width(), subsequent_indent=INDENT)
    text = _field_doc(leaf)
    if leaf.is_variant and len(leaf.path) == 1:
        text = ""  # shown as the title of the group
    if isinstance(leaf.value, ParamsBase) and len(variant_names(*_classes(leaf))) > 1:
        text = f"{text} Run {leaf.flag} NAME --help to list the flags of another choice.".strip()
        chosen = class_summary(type(leaf.value))
        text = f"{text} {type(leaf.value).__name__}: {chosen}" if chosen else text
    if plugins := pending_plugins(*_classes(leaf)):
        text = f"{text} Plug-ins: {', '.join(f'{plugin.name} ({plugin.package})' for plugin in plugins)}.".strip()
    return lines + _wrap(text)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _line_width(), initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def wrap_paragraphs(text: str) -> str:
    """Return a text whose lines are wrapped at the width of the help."""
    return "\n".join(textwrap.fill(line, _line_width(), break_on_hyphens=False) for line in text.splitlines())


def _line_width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


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
        return f"no flags match {word!r}; run --help to list all"
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
