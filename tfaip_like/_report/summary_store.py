"""Storage of summaries as files: images as PNG, text as Markdown, all others as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.files import atomic_directory
from tfaip_like._utils.json_files import format_json
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text


def store_summaries(folder: Path, summaries: Mapping[str, Summary]) -> None:
    """Replace the stored summaries of a kind of validation atomically.

    Args:
        folder: Directory of the kind of validation.
        summaries: Summaries by name.
    """
    if summaries or folder.exists():
        with atomic_directory(folder) as new:
            for name, summary in summaries.items():
                suffix, content = _serialize(summary)
                (new / f"{_file_name(name)}{suffix}").write_bytes(content)


def _serialize(summary: Summary) -> tuple[str, bytes]:
    match summary:
        case Image() | Figure():
            return ".png", summary.png()
        case Text():
            return ".md", escape_lines(summary.markdown).encode()
        case Histogram():
            counts, edges = summary.counts()
            return _json("histogram", counts=counts.tolist(), edges=edges.tolist())
        case PRCurve():
            true_positives, false_positives, _, false_negatives = (part.tolist() for part in summary.counts())
            counted = {"true_positives": true_positives, "false_positives": false_positives}
            return _json("pr_curve", **counted, false_negatives=false_negatives)
        case ConfusionMatrix():
            return _json("confusion_matrix", counts=summary.counts().tolist(), names=summary.labels())
    raise TypeError(f"{type(summary).__name__} cannot be stored as a file")


def _json(kind: str, **values: Any) -> tuple[str, bytes]:
    return ".json", format_json({"kind": kind, **values}).encode()


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
