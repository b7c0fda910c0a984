"""Plug-ins: parameter classes that installed packages announce by entry points.

A package names its classes in its metadata, so they are known without importing it:

    [project.entry-points."tfaip_like.callbacks"]
    Message = "my_package.message:Message"
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from tfaip_like.params._base import ParamsBase


@dataclass(frozen=True)
class Plugin:
    """Parameter class of an installed package."""

    name: str
    """Name by which it is chosen."""
    tag: str
    """`module:Class`."""
    package: str
    """Name and version of the package."""


def find_plugins(*bases: type[ParamsBase]) -> list[Plugin]:
    """Return the plug-ins for a field of these types, by name; their packages are not imported.

    Args:
        bases: `Params` classes of the field's type. Each names its group of entry points (`plugin_group`).
    """
    groups = dict.fromkeys(vars(base).get("plugin_group", "") for base in bases)
    return [plugin for group in groups if group for plugin in _read_group(group)]


@cache
def _read_group(group: str) -> list[Plugin]:
    found: dict[tuple[str, str], Plugin] = {}
    # Parsing the files of all packages would take a twentieth of a second.
    packages = (package for package, text in _read_entry_point_files() if group in text)
    entries = (entry for package in packages for entry in package.entry_points if entry.group == group)
    for plugin in map(_make_plugin, entries):
        # A package that is in two folders of sys.path, perhaps in two versions: Python imports the first.
        found.setdefault((plugin.name, plugin.tag), plugin)
    return sorted(found.values(), key=lambda plugin: (plugin.name, plugin.package))


@cache
def _read_entry_point_files() -> list[tuple[metadata.Distribution, str]]:
    """Return the installed packages, each with the text of its entry points."""
    return [(package, package.read_text("entry_points.txt") or "") for package in metadata.distributions()]


def _make_plugin(entry: metadata.EntryPoint) -> Plugin:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown package"
    return Plugin(entry.name, entry.value.replace(" ", ""), package)
