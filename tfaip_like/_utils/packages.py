"""Optional packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from tfaip_like._utils.errors import UsageError


def require_packages(flag: str, names: Sequence[str], extra: str = "") -> None:
    """Check that packages are installed, without importing them.

    Args:
        flag: flag with its value that requires them, for the message.
        names: modules of the packages.
        extra: what to install if one is missing; by default its name.

    Raises:
        UsageError: names the first missing package.
    """
    for name in names:
        if not is_installed(name):
            raise UsageError(f"{flag}: {name} is not installed; pip install '{extra or name}'")


def is_installed(name: str) -> bool:
    """Return whether a module is found; any directory of its name (`wandb/` in the current one) does not count."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is not None:
        return spec is not None
    return any("-packages" in location for location in spec.submodule_search_locations or ())  # a namespace package
