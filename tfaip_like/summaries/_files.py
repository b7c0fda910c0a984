"""Summaries as files: images as PNG, text as Markdown, all others as JSON."""

from __future__ import annotations

from typing import Any

from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.json_files import format_json
from tfaip_like.summaries._summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text


def to_file(summary: Summary) -> tuple[str, bytes]:
    """Return the suffix and the content of the file of a summary."""
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
