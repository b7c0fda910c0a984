"""Variants: the classes that can be selected for a parameter whose type is a `Params` class."""

from __future__ import annotations

import abc
import difflib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfaip_like._user_code.importing import import_user_module, make_importable
from tfaip_like._user_code.trust import guarded_imports
from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.params._base import ParamsBase, qualified_name
from tfaip_like.params._class_source import check_class_in_source, find_module
from tfaip_like.params._plugins import Plugin, find_plugins


def is_abstract(cls: type) -> bool:
    """Return whether a class is only a base: it has abstract methods, extends `ABC` directly, or starts with `_`."""
    return inspect.isabstract(cls) or abc.ABC in cls.__bases__ or cls.__name__.startswith("_")


def available_variants(*bases: type[ParamsBase], home: str = "") -> dict[str, type[ParamsBase]]:
    """Return the variants for a field of these types, by the name to type.

    The name is the class name. If several variants share it, it is `module:Class`, except for the one local to `home`.

    Args:
        bases: `Params` classes of the field's type.
        home: module of the scenario.
    """
    variants = {qualified_name(cls): cls for base in bases for cls in _iter_subclasses(base) if not is_abstract(cls)}
    by_name: dict[str, list[type[ParamsBase]]] = {}
    for cls in variants.values():
        by_name.setdefault(cls.__name__, []).append(cls)
    plain = {name: _prefer_local(classes, home) for name, classes in by_name.items()}
    return {(cls.__name__ if plain[cls.__name__] is cls else tag): cls for tag, cls in variants.items()}


def variant_names(*bases: type[ParamsBase]) -> list[str]:
    """Return the names of all variants for a field of these types, those of installed packages included.

    Args:
        bases: `Params` classes of the field's type.
    """
    return [*available_variants(*bases), *(plugin.name for plugin in pending_plugins(*bases))]


def pending_plugins(*bases: type[ParamsBase]) -> list[Plugin]:
    """Return the plug-ins for a field of these types whose modules are not imported yet.

    Args:
        bases: `Params` classes of the field's type.
    """
    loaded = {qualified_name(cls) for base in bases for cls in _iter_subclasses(base)}
    return [plugin for plugin in find_plugins(*bases) if plugin.tag not in loaded]


def _prefer_local(classes: Sequence[type[ParamsBase]], home: str) -> type[ParamsBase] | None:
    """Return the only class, else the only one in module `home`, else the only one in its package, else None."""
    package = home.rpartition(".")[0]
    for candidates in (
        classes,
        [cls for cls in classes if cls.__module__ == home],
        [cls for cls in classes if package and f"{cls.__module__}.".startswith(f"{package}.")],
    ):
        if len(candidates) == 1:
            return candidates[0]
    return None


def find_variant(bases: Sequence[type[ParamsBase]], name: str, home: str = "") -> type[ParamsBase]:
    """Return the variant called `name`.

    Args:
        bases: `Params` classes of the field's type.
        name: class name or name of a plug-in in any case, or `module:Class`; the module of the class is imported.
        home: module of the scenario, whose classes take precedence over others of the same name.

    Raises:
        UsageError: if no or more than one variant has this name, or the class extends none of `bases`.
    """
    if ":" in name:
        # The first match: commands define subclasses with additional groups under the name of the scenario.
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
    matches = [cls for choice, cls in choices.items() if choice.lower() == name.lower()]
    if len(matches) == 1:
        return matches[0]
    if plugin := _find_plugin(bases, name):
        return find_variant(bases, plugin.tag, home)
    tags = [tag for tag in choices if tag.endswith(f":{name}")]
    if tags:
        raise UsageError(f"{len(tags)} variants are called {name}; choose one of {', '.join(tags)}")
    raise UsageError(f"unknown {_join_names(bases)} {name!r}{_suggest_variant(name, variant_names(*bases))}")


def _find_plugin(bases: Sequence[type[ParamsBase]], name: str) -> Plugin | None:
    """Return the plug-in called `name`, None if there is none.

    Raises:
        UsageError: if several packages have one of this name.
    """
    found = [plugin for plugin in find_plugins(*bases) if plugin.name.lower() == name.lower()]
    if len(found) > 1:
        choices = ", ".join(f"{plugin.tag} ({plugin.package})" for plugin in found)
        raise UsageError(f"{len(found)} packages have a plug-in {name}; choose one of {choices}")
    return found[0] if found else None


def _import_class(tag: str) -> type[ParamsBase]:
    module_name, _, class_name = tag.partition(":")
    try:
        if class_name and find_module(module_name) is None:
            make_importable(Path.cwd())
        check_class_in_source(tag)
        with guarded_imports():
            member: object = import_user_module(module_name)
    except UsageError as error:
        raise type(error)(f"{tag}: {error}") from error
    for part in class_name.split("."):
        member = getattr(member, part, None)
    # A name in a file may only select a Params class, no other object of a module.
    if not (isinstance(member, type) and issubclass(member, ParamsBase)):
        raise UsageError(f"{tag}: {module_name} has no Params class {class_name!r}")
    return member


def _iter_subclasses(cls: type[ParamsBase]) -> Iterator[type[ParamsBase]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _iter_subclasses(subclass)


def _join_names(bases: Sequence[type[ParamsBase]]) -> str:
    return " or ".join(base.__name__ for base in bases)


def _suggest_variant(name: str, choices: Sequence[str]) -> str:
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_lower[near[0]]}? (choices: {', '.join(choices)})"
    return f"; choose one of {', '.join(choices)}" if choices else "; name a class as module:Class"
