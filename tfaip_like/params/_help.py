"""Help: the flags of a tree with their values and texts, searched, completed, and with origins."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from tfaip_like.params._apply import Resolved
from tfaip_like.params._base import REQUIRED, ParamsBase, Place, with_defaults
from tfaip_like.params._docs import field_docs, summary
from tfaip_like.params._formatting import format_flag, format_words
from tfaip_like.params._suggest import other_variants
from tfaip_like.params._tree import Leaf, flag_of, leaves
from tfaip_like.params._types import choices, describe, is_optional, params_bases, sequence_of
from tfaip_like.params._variants import variants

INDENT = "      "


def help_text(tree: ParamsBase, leave_out: Container[str] = ()) -> str:
    """All flags of a tree in groups: its own plain ones first, then one group per part."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves(tree):
        if leaf.place[0] in leave_out:
            continue
        root_is_plain = len(leaf.place) == 1 and not leaf.is_variant
        groups.setdefault("" if root_is_plain else leaf.place[0], []).append(leaf)
    return "\n\n".join(_group(name, groups[name]) for name in sorted(groups, key=lambda name: name != ""))


def _group(name: str, group: list[Leaf]) -> str:
    leaf = group[0]
    title = summary(type(leaf.value)) if isinstance(leaf.value, ParamsBase) else ""
    lines = [f"{name}: {field_docs(leaf.owner).get(name) or title}"] if name else []
    lines += [text for leaf in group if not _has_nothing_to_choose(leaf) for text in _flag_help(leaf)]
    return "\n".join(lines)


def _has_nothing_to_choose(leaf: Leaf) -> bool:
    """A part of the tree that only ever has one class needs no flag of its own."""
    one_class = leaf.is_variant and len(_choices(leaf)) == 1 and isinstance(leaf.value, ParamsBase)
    return one_class and not is_optional(leaf.type)


def _choices(leaf: Leaf) -> dict[str, type[ParamsBase]]:
    item_type = sequence_of(leaf.type)
    return variants(*params_bases(item_type if item_type is not None else leaf.type))


def _flag_help(leaf: Leaf) -> list[str]:
    words = format_words(leaf.type, leaf.value) if leaf.value or not isinstance(leaf.value, (list, dict)) else ""
    value = "(required)" if leaf.value is REQUIRED else f"[{words}]"
    head = f"  {leaf.flag} {describe(leaf.type)}  {value}"
    lines = [head] if len(head) <= _width() else textwrap.wrap(head, _width(), subsequent_indent=INDENT)
    text = _text(leaf)
    if leaf.is_variant and len(leaf.place) == 1:
        text = ""  # it stands in the title of the group
    if isinstance(leaf.value, ParamsBase) and len(_choices(leaf)) > 1:
        text = f"{text} {leaf.flag} NAME --help shows the flags of another choice.".strip()
        chosen = summary(type(leaf.value))
        text = f"{text} {type(leaf.value).__name__}: {chosen}" if chosen else text
    return lines + _wrapped(text)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=INDENT, subsequent_indent=INDENT)


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


# Search.


@dataclass
class Match:
    """A flag that was searched for."""

    leaf: Leaf
    choice: str = ""
    """The flag that chooses the variant it belongs to, unless that is chosen already."""
    variants: list[str] = field(default_factory=list)
    """The variants that have it."""


def search(tree: ParamsBase, word: str) -> list[Match]:
    """The flags whose name, choices or text contain `word`; first those in effect, then those of other variants."""
    wanted = word.lower().lstrip("-")
    found: dict[tuple[str, str], Match] = {}
    for leaf in leaves(tree):
        found[(leaf.flag, _text(leaf))] = Match(leaf)
    for choice, place, cls in _not_chosen(tree):
        for leaf in leaves(with_defaults(cls), place):
            match = found.setdefault((leaf.flag, _text(leaf)), Match(leaf, choice))
            match.variants.append(cls.__name__)
    return [
        match
        for match in found.values()
        if not _has_nothing_to_choose(match.leaf)
        and wanted in f"{match.leaf.flag} {describe(match.leaf.type)} {_text(match.leaf)}".lower()
    ]


def _not_chosen(tree: ParamsBase) -> Iterator[tuple[str, Place, type[ParamsBase]]]:
    """Variants that do not stand in a tree: the flag that chooses each, where it would stand, its class."""
    for place, cls, _ in other_variants(tree):
        yield flag_of(place), place, cls
    for leaf in leaves(tree):
        item_type = sequence_of(leaf.type)
        if item_type is not None and not leaf.value:  # an empty list
            for cls in variants(*params_bases(item_type)).values():
                yield leaf.flag, (*leaf.place, "0"), cls


def search_text(tree: ParamsBase, word: str) -> str:
    """What `--help WORD` prints."""
    matches = search(tree, word)
    if not matches:
        return f"No flag has {word!r} in its name or its text. --help lists them all."
    lines: list[str] = []
    for match in matches:
        lines += _flag_help(match.leaf)
        if match.choice:
            lines += _wrapped(f"(with {match.choice} {' or '.join(match.variants)})")
    return "\n".join(lines)


def _text(leaf: Leaf) -> str:
    return field_docs(leaf.owner).get(leaf.place[-1], "")


# Where values came from.


def show_text(resolved: Resolved) -> str:
    """Every value as a flag, and its origin: what `--show` prints."""
    rows = [
        (
            format_flag(leaf.flag, leaf.type, leaf.value),
            _origin(resolved.origins, leaf.place, leaf.is_variant),
        )
        for leaf in leaves(resolved.tree)
        if not _has_nothing_to_choose(leaf)
    ]
    width = min(max(len(text) for text, _ in rows), 70)
    return "\n".join(f"{text:<{width}}  # {origin}" for text, origin in rows)


def _origin(origins: Mapping[Place, str], place: Place, is_variant: bool) -> str:
    if place in origins:
        return origins[place]
    # A list or dict of plain values of which a part was given.
    of_parts = [origin for known, origin in origins.items() if known[: len(place)] == place]
    return of_parts[0] if of_parts and not is_variant else "default"


# Completion.


def completions(tree: ParamsBase, words: list[str]) -> list[str]:
    """What can stand in place of the last of `words`: flags, or the choices of the flag before it."""
    last = words[-1] if words else ""
    flag = next((word for word in reversed(words[:-1]) if word.startswith("--")), None)
    by_flag = {leaf.flag: leaf for leaf in leaves(tree)}
    if last.startswith("-") or flag is None or flag not in by_flag:
        names = [leaf.flag for leaf in by_flag.values() if not _has_nothing_to_choose(leaf)]
        return [name for name in names if name.startswith(last)]
    leaf = by_flag[flag]
    return [choice for choice in choices(leaf.type) if choice.startswith(last)]
