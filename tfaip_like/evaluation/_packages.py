"""Packages of the extra `evaluation`, imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

from tfaip_like._utils.errors import UsageError


def import_extra(module: str) -> Any:
    """Return a module of a package of the extra `evaluation`.

    Raises:
        UsageError: if the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UsageError(f"{package} is not installed; pip install 'tfaip_like[evaluation]'") from error


def make_axes() -> tuple[Any, Any]:
    """Return a matplotlib figure, which pyplot does not keep in memory, and its axes."""
    figure = import_extra("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
    return figure, figure.subplots()
