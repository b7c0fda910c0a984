"""Suggestions for unknown flags."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from tfaip_like.params._base import ParamPath, ParamsBase, default_instance, field_types, get_search_words
from tfaip_like.params._tree import iter_leaves
from tfaip_like.params._types import params_classes, sequence_item_type, type_metavar
from tfaip_like.params._variants import available_variants


def suggest_flag(root: ParamsBase, path: ParamPath) -> str:
    """Return the suggestion for the unknown flag `path` of `root`."""
    if owner := _find_variant_with(root, path):
        flag, name, current = owner
        return f"belongs to {name}, but {flag} is {current}; add {flag} {name}"
    if len(path) > 1 and (leaf_type := _type_at(root, path[:-1])) is not None and not params_classes(leaf_type):
        return f"--{'.'.join(path[:-1])} is {type_metavar(leaf_type)} and has no parts"
    known = [".".join(leaf.path) for leaf in iter_leaves(root)]
    wrong = ".".join(path)
    if wrong.replace("-", "_") in known:
        return f"unknown flag; did you mean --{wrong.replace('-', '_')}?"
    if foreign := _find_by_search_word(root, path):
        return f"unknown flag; did you mean {' or '.join(foreign[:3])}?"
    same_end = [name for name in known if name.split(".")[-1] == path[-1]]
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.75)
    ends = {name.split(".")[-1]: name for name in reversed(known)}
    near_end = [ends[end] for end in difflib.get_close_matches(path[-1], ends, n=1, cutoff=0.7)]
    guesses = list(dict.fromkeys([*near, *same_end, *near_end]))[:3]
    if guesses:
        return f"unknown flag; did you mean {' or '.join(f'--{guess}' for guess in guesses)}?"
    for here, cls, _ in iter_other_variants(root):
        for leaf in iter_leaves(default_instance(cls), here):
            if leaf.path[-1] == path[-1]:
                return f"unknown flag; did you mean {leaf.flag} (of {cls.__name__})?"
    return "unknown flag; --help all lists all flags, --help WORD searches them"


def _find_by_search_word(root: ParamsBase, path: ParamPath) -> list[str]:
    """Return the flags that other frameworks call by the name in `path`, those of the same group first."""
    found = [leaf for leaf in iter_leaves(root) if path[-1] in get_search_words(leaf.owner, leaf.path[-1])]
    return [leaf.flag for leaf in sorted(found, key=lambda leaf: leaf.path[:-1] != path[:-1])]


def iter_other_variants(root: ParamsBase) -> Iterator[tuple[ParamPath, type[ParamsBase], Any]]:
    """Yield the variants that are not selected: path, class, and the current value."""
    for leaf in iter_leaves(root):
        for cls in available_variants(*params_classes(leaf.type)).values():
            if type(leaf.value) is not cls:
                yield leaf.path, cls, leaf.value


def _find_variant_with(root: ParamsBase, path: ParamPath) -> tuple[str, str, str] | None:
    for here, cls, value in iter_other_variants(root):
        rest = path[len(here) :]
        if path[: len(here)] == here and rest:
            has_it = any(leaf.path == rest for leaf in iter_leaves(default_instance(cls)))
            if has_it and not _is_leaf_field(value, rest):
                current = type(value).__name__ if isinstance(value, ParamsBase) else str(value).lower()
                return f"--{'.'.join(here)}", cls.__name__, current
    return None


def _is_leaf_field(value: Any, rest: ParamPath) -> bool:
    return isinstance(value, ParamsBase) and rest[0] in field_types(type(value)) and len(rest) == 1


def _type_at(root: ParamsBase, path: ParamPath) -> Any:
    return next(
        (leaf.type for leaf in iter_leaves(root) if leaf.path == path and sequence_item_type(leaf.type) is None), None
    )
