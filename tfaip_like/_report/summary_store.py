"""Storage of the summaries of a run as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tfaip_like._utils.files import atomic_directory
from tfaip_like.summaries import Summary
from tfaip_like.summaries._files import to_file


def store_summaries(folder: Path, summaries: Mapping[str, Summary]) -> None:
    """Replace the stored summaries of a kind of validation atomically.

    Args:
        folder: Directory of the kind of validation.
        summaries: Summaries by name.
    """
    if summaries or folder.exists():
        with atomic_directory(folder) as new:
            for name, summary in summaries.items():
                suffix, content = to_file(summary)
                (new / f"{_file_name(name)}{suffix}").write_bytes(content)


def _file_name(name: str) -> str:
    """Return a name as a valid file name."""
    return re.sub(r"[%/\\\x00-\x1f]|^\.", lambda match: f"%{ord(match[0]):02X}", name)


@dataclass(frozen=True)
class StoredSummary:
    """File of a stored summary."""

    path: Path

    @property
    def name(self) -> str:
        """Name that the evaluator or model gave the summary."""
        return unquote(self.path.stem)


def list_stored_summaries(folder: Path) -> list[StoredSummary]:
    """Return the stored summaries of a kind of validation, sorted by name."""
    if not folder.is_dir():
        return []
    return [StoredSummary(path) for path in sorted(folder.iterdir()) if path.suffix in (".png", ".md", ".json")]
