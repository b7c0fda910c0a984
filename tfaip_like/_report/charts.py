"""Charts of a page: what they show, as JSON in the page. Apache ECharts, embedded in the page, draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tfaip_like._report.markup import Child, Markup, data, element
from tfaip_like._report.numbers import short

POINTS_OF_A_LINE = 400
"""Points of a line at most: a screen has no more columns to show them in."""
FEWEST_POINTS = 12
DECADES_OF_A_LINE = 2
"""Positive values that span more are drawn on a logarithmic scale."""
SMALLEST, LARGEST = 1e-150, 1e150
"""Values beyond are not drawn: axes are computed in double precision."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    """In the order of x; a value that is not finite is a gap."""
    look: int | None = 0
    """Number of its colour and dashes in the style of the page; None for one of many in grey."""
    run: int | None = None
    """Index of the run that it belongs to, for highlighting."""


@dataclass(frozen=True)
class Mark:
    """A named place on the x axis."""

    x: float
    name: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    *,
    x_name: str = "epoch",
    are_shares: bool = False,
    note: Child = None,
    has_gaps: bool = True,
    has_legend: bool = True,
    most_points: int = POINTS_OF_A_LINE,
) -> Markup:
    """Return a chart of lines over a common axis, with a legend.

    Args:
        x_name: what is on the x axis; epochs are whole numbers.
        are_shares: whether both axes go from 0 to 1.
        note: text below the chart.
        has_gaps: whether a line is interrupted where x leaps.
        most_points: of each line; peaks are kept.
    """
    values = {
        "kind": "lines",
        "x": x_name,
        "log": not are_shares and is_logarithmic(y for line in lines for _, y in line.points),
        "shares": are_shares,
        "marks": [{"x": mark.x, "name": mark.name} for mark in marks],
        "lines": [_line(line, has_gaps, most_points) for line in lines],
    }
    gaps = sum(not can_be_drawn(y) for line in lines for _, y in line.points)
    return _figure(
        title,
        f"{title} by {x_name}: {'; '.join(_in_words(line) for line in lines[:6])}",
        values,
        legend(lines) if has_legend else None,
        element("p", f"{gaps} values are not finite and not drawn", class_="note") if gaps else None,
        note,
    )


def bar_chart(title: str, counts: Sequence[float], edges: Sequence[float]) -> Markup:
    """Return a histogram: how many values lie between each two edges."""
    label = f"{title}: {short(sum(counts))} values from {short(edges[0])} to {short(edges[-1])}"
    values = {"kind": "bars", "counts": list(map(_rounded, counts)), "edges": list(map(_rounded, edges))}
    return _figure(title, label, values)


def legend(lines: Sequence[Line]) -> Markup | None:
    """Return the names of the lines beside their looks; None for a single line."""
    if len(lines) < 2:
        return None
    return element("ul", (element("li", swatch(line.look or 0), line.name) for line in lines), class_="legend")


def swatch(look: int) -> Markup:
    """Return a short piece of a line as it looks in the charts."""
    stroke = element("path", d="M0 5H26", class_=f"line l{look}")
    return element("svg", stroke, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def points_per_line(lines: int, points: int) -> int:
    """Return how many points each line may have, where all lines of a page share a budget."""
    return max(FEWEST_POINTS, min(POINTS_OF_A_LINE, points // max(1, lines)))


def can_be_drawn(value: float) -> bool:
    """Return whether a value is finite and within the range of the axes."""
    return abs(value) < LARGEST  # False for NaN


def is_logarithmic(values: Iterable[float]) -> bool:
    """Return whether the finite values are positive and span more than two decades."""
    finite = [value for value in values if can_be_drawn(value)]
    low = min(finite, default=0.0)
    return low > SMALLEST and math.log10(max(finite)) - math.log10(low) > DECADES_OF_A_LINE


def _figure(title: str, label: str, values: dict[str, Any], *below: Child) -> Markup:
    plot = element("div", class_="plot", role="img", aria_label=label)
    return element("figure", element("figcaption", element("b", title)), plot, data(values), *below, class_="chart")


def _line(line: Line, has_gaps: bool, most: int) -> dict[str, Any]:
    pieces = list(_pieces(line.points, has_gaps))
    total = sum(len(piece) for piece in pieces)
    points: list[list[float | None]] = []
    for piece in pieces:  # of a line with many gaps, each piece has its share
        if points:
            points.append([_rounded(piece[0][0]), None])
        thinned = _thinned(piece, max(3, most * len(piece) // total))
        points += [[_rounded(x, digits=9), _rounded(y)] for x, y in thinned]
    values: dict[str, Any] = {"name": line.name, "look": line.look, "points": points}
    return values if line.run is None else {**values, "run": line.run}


def _rounded(value: float, digits: int = 5) -> float:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _pieces(points: Sequence[Point], has_gaps: bool) -> Iterator[list[Point]]:
    """Yield the parts of a line between values that are not finite and steps that are far longer than usual."""
    steps = [after[0] - before[0] for before, after in pairwise(points)]
    longest = 2 * median(steps) if steps and has_gaps else math.inf
    piece: list[Point] = []
    for point in points:
        is_drawn = can_be_drawn(point[1])
        if piece and (not is_drawn or point[0] - piece[-1][0] > longest):
            yield piece
            piece = []
        if is_drawn:
            piece.append(point)
    if piece:
        yield piece


def _thinned(points: list[Point], most: int) -> list[Point]:
    """Return about `most` of the points, with the first, the last, and the extremes between."""
    if len(points) <= most:
        return points
    inner = points[1:-1]
    groups = max(1, (most - 2) // 2)
    bounds = [len(inner) * number // groups for number in range(groups + 1)]
    kept: list[Point] = []
    for begin, end in pairwise(bounds):
        if group := inner[begin:end]:
            extremes: dict[Point, None] = dict.fromkeys((min(group, key=_height), max(group, key=_height)))
            kept += sorted(extremes)
    return [points[0], *kept, points[-1]]


def _height(point: Point) -> float:
    return point[1]


def _in_words(line: Line) -> str:
    """Describe a line for those who cannot see it."""
    finite = [(x, y) for x, y in line.points if can_be_drawn(y)]
    if not finite:
        return f"{line.name} without values"
    return f"{line.name} from {short(finite[0][1])} to {short(finite[-1][1])}"
