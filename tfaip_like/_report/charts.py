"""Charts of a page: JSON data for Apache ECharts, which is embedded in the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tfaip_like._report.formatting import format_number
from tfaip_like._report.markup import Child, Markup, element, json_script

MAX_POINTS_PER_LINE = 400
"""Limit for the points of a line; screens do not resolve more."""
MIN_POINTS_PER_LINE = 12
MAX_LINEAR_DECADES = 2
"""Positive values that span more decades are drawn on a logarithmic axis."""
MIN_DRAWABLE, MAX_DRAWABLE = 1e-150, 1e150
"""Range of values that are drawn, as axes are computed in double precision."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Line of a chart."""

    name: str
    points: Sequence[Point]
    """Points sorted by x; a non-finite value is a gap."""
    look: int | None = 0
    """Index of its colour and dashes in the style sheet; None for grey."""
    run: int | None = None
    """Index of its run, for highlighting."""


@dataclass(frozen=True)
class Marker:
    """Named position on the x axis."""

    x: float
    name: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    marks: Sequence[Marker] = (),
    *,
    x_name: str = "epoch",
    has_unit_axes: bool = False,
    note: Child = None,
    has_gaps: bool = True,
    has_legend: bool = True,
    max_points: int = MAX_POINTS_PER_LINE,
) -> Markup:
    """Return a line chart with a legend.

    Args:
        title: Title of the chart.
        lines: Lines.
        marks: Marked positions on the x axis.
        x_name: Name of the x axis; epochs are integers.
        has_unit_axes: Whether both axes range from 0 to 1.
        note: Text below the chart.
        has_gaps: Whether a line is interrupted at large steps in x.
        has_legend: Whether to draw a legend.
        max_points: Maximum number of points of each line; extremes are preserved.
    """
    values = {
        "kind": "lines",
        "x": x_name,
        "log": not has_unit_axes and is_logarithmic(y for line in lines for _, y in line.points),
        "shares": has_unit_axes,
        "marks": [{"x": mark.x, "name": mark.name} for mark in marks],
        "lines": [_line_data(line, has_gaps, max_points) for line in lines],
    }
    gaps = sum(not is_drawable(y) for line in lines for _, y in line.points)
    return _figure(
        title,
        f"{title} by {x_name}: {'; '.join(_alt_text(line) for line in lines[:6])}",
        values,
        legend(lines) if has_legend else None,
        element("p", f"{gaps} non-finite values are not drawn", class_="note") if gaps else None,
        note,
    )


def bar_chart(title: str, counts: Sequence[float], edges: Sequence[float]) -> Markup:
    """Return a histogram.

    Args:
        title: Title of the chart.
        counts: Count of each bin.
        edges: Edges of the bins, one more than counts.
    """
    label = f"{title}: {format_number(sum(counts))} values from {format_number(edges[0])} to {format_number(edges[-1])}"
    values = {"kind": "bars", "counts": list(map(_round_digits, counts)), "edges": list(map(_round_digits, edges))}
    return _figure(title, label, values)


def legend(lines: Sequence[Line]) -> Markup | None:
    """Return the legend of the lines; None for a single line."""
    if len(lines) < 2:
        return None
    return element("ul", (element("li", swatch(line.look or 0), line.name) for line in lines), class_="legend")


def swatch(look: int) -> Markup:
    """Return a line sample for a legend."""
    stroke = element("path", d="M0 5H26", class_=f"line l{look}")
    return element("svg", stroke, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def points_per_line(lines: int, points: int) -> int:
    """Return the maximum number of points of each line, given the number of lines and of points in total."""
    return max(MIN_POINTS_PER_LINE, min(MAX_POINTS_PER_LINE, points // max(1, lines)))


def is_drawable(value: float) -> bool:
    """Return whether a value is finite and within the range of the axes."""
    return abs(value) < MAX_DRAWABLE  # False for NaN


def is_logarithmic(values: Iterable[float]) -> bool:
    """Return whether the finite values are positive and span more than two decades."""
    finite = [value for value in values if is_drawable(value)]
    low = min(finite, default=0.0)
    return low > MIN_DRAWABLE and math.log10(max(finite)) - math.log10(low) > MAX_LINEAR_DECADES


def _figure(title: str, label: str, values: dict[str, Any], *below: Child) -> Markup:
    plot = element("div", class_="plot", role="img", aria_label=label)
    return element(
        "figure", element("figcaption", element("b", title)), plot, json_script(values), *below, class_="chart"
    )


def _line_data(line: Line, has_gaps: bool, most: int) -> dict[str, Any]:
    pieces = list(_split_at_gaps(line.points, has_gaps))
    total = sum(len(piece) for piece in pieces)
    points: list[list[float | None]] = []
    for piece in pieces:  # points are divided in proportion to the length of the pieces
        if points:
            points.append([_round_digits(piece[0][0]), None])
        thinned = _downsample(piece, max(3, most * len(piece) // total))
        points += [[_round_digits(x, digits=9), _round_digits(y)] for x, y in thinned]
    values: dict[str, Any] = {"name": line.name, "look": line.look, "points": points}
    return values if line.run is None else {**values, "run": line.run}


def _round_digits(value: float, digits: int = 5) -> float:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _split_at_gaps(points: Sequence[Point], has_gaps: bool) -> Iterator[list[Point]]:
    """Yield the pieces of a line between non-finite values and steps longer than twice the median step."""
    steps = [after[0] - before[0] for before, after in pairwise(points)]
    longest = 2 * median(steps) if steps and has_gaps else math.inf
    piece: list[Point] = []
    for point in points:
        is_kept = is_drawable(point[1])
        if piece and (not is_kept or point[0] - piece[-1][0] > longest):
            yield piece
            piece = []
        if is_kept:
            piece.append(point)
    if piece:
        yield piece


def _downsample(points: list[Point], most: int) -> list[Point]:
    """Return about `most` points: the first, the last, and the extremes of groups in between."""
    if len(points) <= most:
        return points
    inner = points[1:-1]
    groups = max(1, (most - 2) // 2)
    bounds = [len(inner) * number // groups for number in range(groups + 1)]
    kept: list[Point] = []
    for begin, end in pairwise(bounds):
        if group := inner[begin:end]:
            extremes: dict[Point, None] = dict.fromkeys((min(group, key=_y_value), max(group, key=_y_value)))
            kept += sorted(extremes)
    return [points[0], *kept, points[-1]]


def _y_value(point: Point) -> float:
    return point[1]


def _alt_text(line: Line) -> str:
    """Return a description of a line for screen readers."""
    finite = [(x, y) for x, y in line.points if is_drawable(y)]
    if not finite:
        return f"{line.name} without values"
    return f"{line.name} from {format_number(finite[0][1])} to {format_number(finite[-1][1])}"
