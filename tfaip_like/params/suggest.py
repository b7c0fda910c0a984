"""The nearest right name for a flag that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from tfaip_like.params.base import ParamsBase, Place, field_types, with_defaults
from tfaip_like.params.types import describe, params_bases, sequence_of
from tfaip_like.params.variants import variants


def suggest_flag(root: ParamsBase, place: Place) -> str:
    """What to tell a person who typed the flag `place`, which `root` does not have."""
    if owner := _variant_that_has(root, place):
        flag, name, current = owner
        return f"belongs to {name}, but {flag} is {current}; add {flag} {name}"
    if len(place) > 1 and (leaf_type := _type_at(root, place[:-1])) is not None and not params_bases(leaf_type):
        return f"--{'.'.join(place[:-1])} is {describe(leaf_type)} and has no parts"
    known = [".".join(known_place) for known_place, _ in all_flags(root)]
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
        for rest, _ in all_flags(with_defaults(cls)):
            if rest[-1] == place[-1]:
                return f"there is no such flag; did you mean --{'.'.join((*here, *rest))} (of {cls.__name__})?"
    return "there is no such flag; --help lists them, --help WORD searches them"


def all_flags(root: ParamsBase, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """The flags of a tree as it is, with their types: those of the chosen variants only."""
    for name, tp in field_types(type(root)).items():
        here = (*place, name)
        yield here, tp
        value = getattr(root, name)
        if isinstance(value, ParamsBase):
            yield from all_flags(value, here)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                if isinstance(item, ParamsBase):
                    yield from all_flags(item, (*here, str(index)))
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, ParamsBase):
                    yield from all_flags(item, (*here, str(key)))


def other_variants(root: ParamsBase, place: Place = ()) -> Iterator[tuple[Place, type[ParamsBase], Any]]:
    """The variants that could stand in a tree but do not: their place, class, and what stands there."""
    for here, tp in all_flags(root, place):
        value = _value_at(root, here[len(place) :])
        for cls in variants(*params_bases(tp)).values():
            if type(value) is not cls:
                yield here, cls, value


def _variant_that_has(root: ParamsBase, place: Place) -> tuple[str, str, str] | None:
    for here, cls, value in other_variants(root):
        rest = place[len(here) :]
        if place[: len(here)] == here and rest:
            candidate = with_defaults(cls)
            if any(rest == known for known, _ in all_flags(candidate)) and not _is_plain_part(value, rest):
                current = type(value).__name__ if isinstance(value, ParamsBase) else str(value).lower()
                return f"--{'.'.join(here)}", cls.__name__, current
    return None


def _is_plain_part(value: Any, rest: Place) -> bool:
    return isinstance(value, ParamsBase) and rest[0] in field_types(type(value)) and len(rest) == 1


def _type_at(root: ParamsBase, place: Place) -> Any:
    return next((tp for known, tp in all_flags(root) if known == place and sequence_of(tp) is None), None)


def _value_at(root: Any, place: Place) -> Any:
    for part in place:
        if isinstance(root, (list, tuple)):
            root = root[int(part)]
        elif isinstance(root, dict):
            root = root[part]
        else:
            root = getattr(root, part)
    return root
