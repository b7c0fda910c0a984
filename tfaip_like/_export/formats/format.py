"""Definition of a format of exported networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like.data._sample import Arrays


@dataclass(frozen=True)
class Format:
    """Format that a SavedModel can be converted to."""

    filename: str
    """Name of its file in an export directory."""
    required_packages: tuple[str, ...]
    """Packages besides TensorFlow that convert to it and run it."""
    convert: Callable[[Path, Path, Arrays], Mapping[str, Any]]
    """Converts a SavedModel (first path) to a file (second path), and returns the outputs of the file for the inputs
    of a batch. May raise any exception."""
