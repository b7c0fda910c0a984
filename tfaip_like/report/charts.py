"""Charts as SVG, made here: a page with them needs no library, and nobody's script to be seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tfaip_like.report.markup import Child, Markup, element
from tfaip_like.report.numbers import short
from tfaip_like.report.scales import Scale, can_be_drawn, scale_of

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 22, 26
"""What is free around the lines, for numbers."""
POINTS_OF_A_CHART = 4000
POINTS_OF_A_LINE = 400
"""About how many points are drawn at most: a screen has no more columns to show them in."""
DOTTED_UP_TO = 25
"""Lines of no more points have a dot at each, where there are no more than `DOTTED_LINES` of them."""
DOTTED_LINES = 10

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    """In the order of x; a value that is no number is a gap."""
    look: str = "l0"
    """Its class in the style of the page: colour and dashes."""
    is_named: bool = True
    """Whether it is in the legend."""


@dataclass(frozen=True)
class Mark:
    """A place on the x axis that has a name."""

    x: float
    name: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    x_name: str = "epoch",
    x_scale: Scale | None = None,
    y_scale: Scale | None = None,
    note: Child = None,
    has_gaps: bool = True,
) -> Markup:
    """Lines over a common axis, with a legend.

    Args:
        x_scale: by default, for whole numbers.
        note: what else is to be said below.
        has_gaps: whether a line is broken where x leaps.
    """
    xs = [x for line in lines for x, _ in line.points]
    x_axis = x_scale or scale_of(xs, margin=0.0 if len(set(xs)) > 1 else 0.04, is_log=False)
    y_axis = y_scale or scale_of(y for line in lines for _, y in line.points)
    frame = _Frame(x_axis, y_axis)
    most = max(20, min(POINTS_OF_A_LINE, POINTS_OF_A_CHART // max(1, len(lines))))
    drawn = [
        *frame.axes(whole_x=x_scale is None),
        *(frame.mark(mark) for mark in marks),
        *(frame.line(line, most, has_gaps, len(lines) <= DOTTED_LINES) for line in lines),
        element("line", class_="cursor", y1=TOP, y2=HEIGHT - BOTTOM, visibility="hidden"),
    ]
    svg = element(
        "svg",
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title} by {x_name}: {'; '.join(_told(line) for line in lines[:6])}",
        data_x=x_name,
    )
    caption = element("figcaption", element("b", title), " ", element("output", aria_live="off"))
    gaps = sum(not can_be_drawn(y) for line in lines for _, y in line.points)
    return element(
        "figure",
        caption,
        svg,
        legend(lines),
        element("p", f"{gaps} of the values are no finite numbers", class_="note") if gaps else None,
        note,
        class_="chart",
    )


def legend(lines: Sequence[Line]) -> Markup | None:
    """What each line is; nothing for a single one."""
    named = [line for line in lines if line.is_named]
    if len(lines) < 2:
        return None
    return element("ul", (element("li", swatch(line.look), line.name) for line in named), class_="legend")


def swatch(look: str) -> Markup:
    """A short piece of a line, to be recognised by."""
    stroke = element("path", d="M0 5H26", class_=f"line {look}")
    return element("svg", stroke, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def bar_chart(title: str, counts: Sequence[float], edges: Sequence[float]) -> Markup:
    """How many values lie between each two edges."""
    frame = _Frame(Scale(edges[0], edges[-1]), Scale(0, max(*counts, 1) * 1.05))
    bars = (
        element(
            "rect",
            element("title", f"{short(low)} to {short(high)}: {short(count)}"),
            x=_place(frame.x(low)),
            y=_place(frame.y(count)),
            width=_place(max(0.5, frame.x(high) - frame.x(low) - 1)),
            height=_place(frame.y(0) - frame.y(count)),
            class_="bar",
        )
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    )
    label = f"{title}: {short(sum(counts))} values from {short(edges[0])} to {short(edges[-1])}"
    svg = element("svg", *frame.axes(), *bars, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    return element("figure", element("figcaption", element("b", title)), svg, class_="chart")


@dataclass(frozen=True)
class _Frame:
    """Where values lie in the drawing."""

    x_axis: Scale
    y_axis: Scale

    def x(self, value: float) -> float:
        return LEFT + self.x_axis.at(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y_axis.at(value) * (HEIGHT - TOP - BOTTOM)

    def axes(self, whole_x: bool = False) -> Iterator[Markup]:
        """Lines across at round numbers, and the numbers."""
        for tick in self.y_axis.ticks():
            y = _place(self.y(tick))
            yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
            yield element("text", short(tick), x=LEFT - 6, y=y, dy="0.32em", class_="end")
        for tick in self.x_axis.ticks(about=6, integers=whole_x):
            x = _place(self.x(tick))
            yield element("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis")
            text = short(tick, digits=6)
            is_at_the_edge = self.x(tick) + 4 * len(text) > WIDTH
            place = {"x": WIDTH, "class_": "end"} if is_at_the_edge else {"x": x, "class_": "middle"}
            yield element("text", text, y=HEIGHT - BOTTOM + 18, **place)
        yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis")

    def mark(self, mark: Mark) -> Markup:
        x = self.x(mark.x)
        is_late = x > WIDTH - 90
        text = element(
            "text", mark.name, x=_place(x + (-4 if is_late else 4)), y=TOP - 8, class_="end" if is_late else None
        )
        return element(
            "g", element("line", x1=_place(x), x2=_place(x), y1=TOP - 18, y2=HEIGHT - BOTTOM), text, class_="mark"
        )

    def line(self, line: Line, most: int, has_gaps: bool, may_have_dots: bool) -> Markup:
        """A line with its gaps; values for the script that reads them out."""
        pieces = list(_pieces(line.points, has_gaps))
        # Of a line with many gaps, each piece has its share.
        total = sum(len(piece) for piece in pieces)
        pieces = [_thinned(piece, max(3, most * len(piece) // max(1, total))) for piece in pieces]
        has_dots = may_have_dots and total <= DOTTED_UP_TO
        path = "".join(self._path(piece) for piece in pieces if len(piece) > 1)
        dots = [
            element("circle", cx=_place(self.x(x)), cy=_place(self.y(y)), r=2.5)
            for piece in pieces
            if has_dots or len(piece) == 1
            for x, y in piece
        ]
        values = " ".join(
            f"{short(x, digits=7)},{short(y, digits=5)},{self.x(x):.1f},{self.y(y):.1f}"
            for piece in pieces
            for x, y in piece
        )
        return element(
            "g",
            element("path", d=path) if path else None,
            *dots,
            class_=f"line {line.look}",
            data_name=line.name,
            data_values=values,
        )

    def _path(self, piece: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in piece)


def _place(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _pieces(points: Sequence[Point], has_gaps: bool) -> Iterator[list[Point]]:
    """The parts of a line between gaps: values that are no numbers, and steps far longer than usual."""
    steps = [after[0] - before[0] for before, after in pairwise(points)]
    longest = 2 * median(steps) if steps and has_gaps else math.inf
    piece: list[Point] = []
    for point in points:
        is_number = can_be_drawn(point[1])
        if piece and (not is_number or point[0] - piece[-1][0] > longest):
            yield piece
            piece = []
        if is_number:
            piece.append(point)
    if piece:
        yield piece


def _thinned(points: list[Point], most: int) -> list[Point]:
    """At most about so many of the points, with the first, the last, and all that stand out up or down."""
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


def _told(line: Line) -> str:
    """A line in words, for those who cannot see it."""
    finite = [(x, y) for x, y in line.points if can_be_drawn(y)]
    if not finite:
        return f"{line.name} without values"
    return f"{line.name} from {short(finite[0][1])} to {short(finite[-1][1])}"
