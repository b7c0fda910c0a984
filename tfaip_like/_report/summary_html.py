"""HTML rendering of stored summaries: images, curves, tables and text."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from tfaip_like._report.charts import Line, bar_chart, line_chart
from tfaip_like._report.formatting import format_number
from tfaip_like._report.markup import Markup, element, join_markup, make_scrollable, table
from tfaip_like._report.summary_store import StoredSummary
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_json_object
from tfaip_like._utils.json_files import short_json as shown_value
from tfaip_like._utils.pixels import draw_confusion_matrix, encode_png, read_png_size
from tfaip_like._utils.typed_json import Count, decode

MAX_IMAGE_BYTES = 1_000_000
"""Maximum size of an image that is embedded in the page."""
MAX_TABLE_CLASSES = 30
"""Maximum number of classes of a confusion matrix that is shown as a table instead of an image."""


def render_summary(stored: StoredSummary) -> Markup:
    """Return a summary as HTML, or a message if its file is corrupt."""
    try:
        match stored.path.suffix:
            case ".png":
                return _render_image(stored.name, stored.path.read_bytes(), stored.path.name)
            case ".md":
                return element(
                    "article", element("h3", stored.name), *_render_markdown(stored.path.read_text(encoding="utf-8"))
                )
        return _render_json_summary(stored.name, _read_summary_json(stored.path))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return element("p", f"{stored.name} cannot be shown: {stored.path.name} is corrupt ({error})", class_="problem")


class _Histogram(TypedDict):
    kind: Literal["histogram"]
    counts: list[float]
    edges: list[float]


class _PRCurve(TypedDict):
    kind: Literal["pr_curve"]
    true_positives: list[float]
    false_positives: list[float]
    false_negatives: list[float]


class _ConfusionMatrix(TypedDict):
    kind: Literal["confusion_matrix"]
    counts: list[list[Count]]
    names: list[str] | None


_KINDS: Mapping[str, type[Any]] = {"histogram": _Histogram, "pr_curve": _PRCurve, "confusion_matrix": _ConfusionMatrix}


def _read_summary_json(file: Path) -> Any:
    """Return the values of a histogram, PR curve or confusion matrix.

    Raises:
        UsageError: If the file is corrupt; names the file and the key or line.
    """
    values = read_json_object(file)
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UsageError(f"{file}: kind: expected one of {', '.join(_KINDS)}, got {shown_value(kind)}")
    decoded = decode(_KINDS[kind], values, str(file))
    if problem := _length_error(decoded):
        raise UsageError(f"{file}: {problem}")
    return decoded


def _length_error(values: Any) -> str:
    """Return a message about the first list of inconsistent length; an empty string if all are consistent."""
    match values["kind"]:
        case "histogram":
            expected = {"edges": (len(values["edges"]), len(values["counts"]) + 1)}
        case "pr_curve":
            number = len(values["true_positives"])
            expected = {name: (len(values[name]), number) for name in ("false_positives", "false_negatives")}
        case _:
            number, names = len(values["counts"]), values["names"]
            expected = {f"counts.{row}": (len(counts), number) for row, counts in enumerate(values["counts"])}
            expected |= {"names": (len(names), number)} if names else {}
    wrong = ((name, actual, number) for name, (actual, number) in expected.items() if actual != number)
    return next((f"{name}: expected {number} values, got {actual}" for name, actual, number in wrong), "")


def _render_json_summary(name: str, values: Any) -> Markup:
    match values["kind"]:
        case "histogram":
            return bar_chart(name, values["counts"], values["edges"])
        case "pr_curve":
            return _render_pr_curve(name, values)
        case "confusion_matrix":
            return _render_confusion_matrix(name, np.array(values["counts"], int), values["names"])
    raise ValueError(f"unknown kind: {values['kind']}")


def _render_image(name: str, file: bytes, file_name: str) -> Markup:
    width, height = read_png_size(file)
    caption = element("figcaption", element("b", name))
    if len(file) > MAX_IMAGE_BYTES:
        note = f"{width} x {height} pixels, too large to embed; see {file_name}"
        return element("figure", caption, element("p", note, class_="note"))
    source = f"data:image/png;base64,{base64.b64encode(file).decode()}"
    return element("figure", caption, element("img", src=source, alt=name, width=width, height=height))


def _render_pr_curve(name: str, values: Any) -> Markup:
    hits, false_alarms, misses = (
        np.array(values[part], float) for part in ("true_positives", "false_positives", "false_negatives")
    )
    is_defined = (hits + false_alarms > 0) & (hits + misses > 0)
    hits, false_alarms, misses = hits[is_defined], false_alarms[is_defined], misses[is_defined]
    recall, precision = hits / (hits + misses), hits / (hits + false_alarms)
    points = list(dict.fromkeys(zip(recall[::-1].tolist(), precision[::-1].tolist(), strict=True)))
    note = None
    if len(points):
        harmonic = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(harmonic.argmax())
        note = element(
            "p",
            f"best F1 {format_number(harmonic[best])}: precision {format_number(precision[best])}, "
            f"recall {format_number(recall[best])}",
            class_="note",
        )
    return line_chart(name, [Line("precision", points)], x_name="recall", has_unit_axes=True, note=note, has_gaps=False)


def _render_confusion_matrix(name: str, counts: npt.NDArray[np.int64], names: Sequence[str]) -> Markup:
    names = names or [str(number) for number in range(len(counts))]
    if len(counts) > MAX_TABLE_CLASSES:
        drawn = _render_image(
            f"{name} (rows: true class, columns: predicted class)",
            encode_png(draw_confusion_matrix(counts)),
            "",
        )
    else:
        drawn = _confusion_table(name, counts, names)
    class_ = "broad" if len(counts) > 10 else None
    return element("article", drawn, _most_frequent_mistakes(counts, names), class_=class_)


def _confusion_table(name: str, counts: npt.NDArray[np.int64], names: Sequence[str]) -> Markup:
    num_true, num_predicted = counts.sum(axis=1), counts.sum(axis=0)

    def cell(row: int, column: int) -> Markup:
        count = int(counts[row, column])
        share = count / max(1, int(num_true[row]))
        if row != column:  # the square root makes rare mistakes visible
            share = math.sqrt(share)
        class_ = "zero" if not count else "right" if row == column else None
        return element("td", str(count), style=f"--share:{share:.2g}" if count else None, class_=class_)

    def ratio(row: int, total: int) -> Markup:
        return element("td", format_number(counts[row, row] / total, digits=2) if total else None, class_="sum")

    rows = [
        element("tr", element("th", names[row], scope="row"), (cell(row, column) for column in range(len(counts))),
                ratio(row, int(num_true[row])))
        for row in range(len(counts))
    ]  # fmt: skip
    last = element(
        "tr",
        element("th", "precision", scope="row"),
        (ratio(column, int(num_predicted[column])) for column in range(len(counts))),
    )
    header = element("tr", (element("th", title, scope="col") for title in ("", *names, "recall")))
    title = element("p", element("b", name), ": rows are true classes, columns are predicted classes")
    content = element(
        "table", element("thead", header), element("tbody", rows, last), class_="confusion", aria_label=name
    )
    return join_markup(title, make_scrollable(content))


def _most_frequent_mistakes(counts: npt.NDArray[np.int64], names: Sequence[str]) -> Markup | None:
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    most = [
        (int(i), int(j)) for i, j in zip(*np.unravel_index(np.argsort(-wrong, axis=None)[:3], wrong.shape), strict=True)
    ]
    mistakes = [f"{names[i]} as {names[j]} ({wrong[i, j]} of {counts[i].sum()})" for i, j in most if wrong[i, j]]
    return element("p", f"Most frequent mistakes: {', '.join(mistakes)}.", class_="note") if mistakes else None


def _render_markdown(markdown: str) -> Iterator[Markup]:
    """Yield Markdown tables as HTML tables, and all other blocks as plain text."""
    for block in re.split(r"\n{2,}", markdown.strip("\n")):
        lines = block.split("\n")
        is_table = len(lines) > 1 and all(line.strip().startswith("|") for line in lines)
        if is_table and set(lines[1]) <= set("|-: "):
            header, _, *rows = (
                [html.unescape(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines
            )
            yield table(header, rows)
        else:
            yield element("p", block, class_="text")
