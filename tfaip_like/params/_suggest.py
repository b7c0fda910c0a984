"""The nearest right name for a flag that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from tfaip_like.params._base import ParamsBase, Place, field_types, with_defaults
from tfaip_like.params._tree import leaves
from tfaip_like.params._types import describe, params_bases, sequence_of
from tfaip_like.params._variants import variants


def suggest_flag(root: ParamsBase, place: Place) -> str:
    """What to tell a person who typed the flag `place`, which `root` does not have."""
    if owner := _variant_that_has(root, place):
        flag, name, current = owner
        return f"belongs to {name}, but {flag} is {current}; add {flag} {name}"
    if len(place) > 1 and (leaf_type := _type_at(root, place[:-1])) is not None and not params_bases(leaf_type):
        return f"--{'.'.join(place[:-1])} is {describe(leaf_type)} and has no parts"
    known = [".".join(leaf.place) for leaf in leaves(root)]
    wrong = ".".join(place)
    if wrong.replace("-", "_") in known:
        return f"there is no such flag; did you mean --{wrong.replace('-', '_')}?"
    same_end = [name for name in known if name.split(".")[-1] == place[-1]]
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.75)
    ends = {name.split(".")[-1]: name for name in reversed(known)}
    near_end = [ends[end] for end in difflib.get_close_matches(place[-1], ends, n=1, cutoff=0.7)]
    guesses = list(dict.fromkeys([*near, *same_end, *near_end]))[:3]
    if guesses:
        return f"there is no such flag; did you mean {' or '.join(f'--{guess}' for guess in guesses)}?"
    for here, cls, _ in other_variants(root):
        for leaf in leaves(with_defaults(cls), here):
            if leaf.place[-1] == place[-1]:
                return f"there is no such flag; did you mean {leaf.flag} (of {cls.__name__})?"
    return "there is no such flag; --help lists them, --help WORD searches them"


def other_variants(root: ParamsBase) -> Iterator[tuple[Place, type[ParamsBase], Any]]:
    """The variants that could stand in a tree but do not: their place, class, and what stands there."""
    for leaf in leaves(root):
        for cls in variants(*params_bases(leaf.type)).values():
            if type(leaf.value) is not cls:
                yield leaf.place, cls, leaf.value


def _variant_that_has(root: ParamsBase, place: Place) -> tuple[str, str, str] | None:
    for here, cls, value in other_variants(root):
        rest = place[len(here) :]
        if place[: len(here)] == here and rest:
            has_it = any(leaf.place == rest for leaf in leaves(with_defaults(cls)))
            if has_it and not _is_plain_part(value, rest):
                current = type(value).__name__ if isinstance(value, ParamsBase) else str(value).lower()
                return f"--{'.'.join(here)}", cls.__name__, current
    return None


def _is_plain_part(value: Any, rest: Place) -> bool:
    return isinstance(value, ParamsBase) and rest[0] in field_types(type(value)) and len(rest) == 1


def _type_at(root: ParamsBase, place: Place) -> Any:
    return next((leaf.type for leaf in leaves(root) if leaf.place == place and sequence_of(leaf.type) is None), None)
