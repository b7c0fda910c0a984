"""Variants: the classes that can stand where a parameter's type is a `Params` class."""

from __future__ import annotations

import abc
import difflib
import inspect
from collections.abc import Iterator, Sequence

from tfaip_like._user_code.importing import import_user_module
from tfaip_like._user_code.trust import guarded_imports
from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.params._base import ParamsBase, qualified_name
from tfaip_like.params._class_source import check_class_in_source


def is_abstract(cls: type) -> bool:
    """Return whether a class is only a base: it has abstract methods, extends `ABC` itself, or starts with `_`."""
    return inspect.isabstract(cls) or abc.ABC in cls.__bases__ or cls.__name__.startswith("_")


def available_variants(*bases: type[ParamsBase], home: str = "") -> dict[str, type[ParamsBase]]:
    """The choices for a field of these types, by the name that is typed.

    That is the class name; where several choices share it, they are listed as `module:Class`, all but one that is at
    home.

    Args:
        home: the module of the scenario.
    """
    found = {qualified_name(cls): cls for base in bases for cls in _iter_subclasses(base) if not is_abstract(cls)}
    of_name: dict[str, list[type[ParamsBase]]] = {}
    for cls in found.values():
        of_name.setdefault(cls.__name__, []).append(cls)
    plain = {name: _prefer_local(classes, home) for name, classes in of_name.items()}
    return {(cls.__name__ if plain[cls.__name__] is cls else tag): cls for tag, cls in found.items()}


def _prefer_local(classes: Sequence[type[ParamsBase]], home: str) -> type[ParamsBase] | None:
    """The only class, or the only one in a module, or else in its package."""
    package = home.rpartition(".")[0]
    for nearer in (
        classes,
        [cls for cls in classes if cls.__module__ == home],
        [cls for cls in classes if package and f"{cls.__module__}.".startswith(f"{package}.")],
    ):
        if len(nearer) == 1:
            return nearer[0]
    return None


def find_variant(bases: Sequence[type[ParamsBase]], name: str, home: str = "") -> type[ParamsBase]:
    """The variant called `name`: a class name, in upper or lower case, or `module:Class`, which is imported.

    Args:
        home: the module of the scenario, whose own classes come before others of the same name.

    Raises:
        UsageError: when there is none, or the class is none of `bases`.
    """
    if ":" in name:
        # The first of a name: commands make classes with one more group under the name of the scenario.
        known = (cls for base in bases for cls in _iter_subclasses(base) if qualified_name(cls) == name)
        cls = next(known, None) or _import_class(name)
        if not issubclass(cls, tuple(bases)):
            raise UsageError(f"{name} is not {with_article(_join_names(bases))}")
        if is_abstract(cls):
            raise UsageError(f"{name} is abstract; choose one of {', '.join(available_variants(cls))}")
        return cls
    choices = available_variants(*bases, home=home)
    if name in choices:
        return choices[name]
    same = [cls for choice, cls in choices.items() if choice.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    tags = [tag for tag in choices if tag.endswith(f":{name}")]
    if tags:
        raise UsageError(f"there are {len(tags)} variants called {name}: say which, {' or '.join(tags)}")
    raise UsageError(f"there is no {_join_names(bases)} called {name!r}{_suggest_variant(name, choices)}")


def _import_class(tag: str) -> type[ParamsBase]:
    module_name, _, class_name = tag.partition(":")
    try:
        check_class_in_source(tag)
        with guarded_imports():
            found: object = import_user_module(module_name)
    except UsageError as error:
        raise type(error)(f"{tag}: {error}") from error
    for part in class_name.split("."):
        found = getattr(found, part, None)
    # Only parameters are ever made from a name in a file: nothing else that a module holds.
    if not (isinstance(found, type) and issubclass(found, ParamsBase)):
        raise UsageError(f"{tag}: there is no class {class_name!r} of parameters in {module_name}")
    return found


def _iter_subclasses(cls: type[ParamsBase]) -> Iterator[type[ParamsBase]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _iter_subclasses(subclass)


def _join_names(bases: Sequence[type[ParamsBase]]) -> str:
    return " or ".join(base.__name__ for base in bases)


def _suggest_variant(name: str, choices: dict[str, type[ParamsBase]]) -> str:
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_lower[near[0]]}? (choices: {', '.join(choices)})"
    return f"; choose one of {', '.join(choices) or 'none: no variant is defined'}"
