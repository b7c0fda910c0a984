"""Parallel coordinates: an axis for each parameter and one for the outcome, a line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like.report.markup import Markup, element
from tfaip_like.report.numbers import short, words
from tfaip_like.report.scales import Scale, can_be_drawn, scale_of

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 90, 34, 16
VIRIDIS = ("#5c2a8a", "#4f4a9c", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#c4b51c")
"""From dark to light, for every kind of colour vision; both ends can be seen on white and on black."""


@dataclass(frozen=True)
class Axis:
    """An axis with the value of each run; None where it has none."""

    name: str
    values: Sequence[Any]


def parallel_coordinates(axes: Sequence[Axis], names: Sequence[str], mode: str | None) -> Markup:
    """A line for each run, coloured by the last axis, the best on top.

    Args:
        names: of the runs.
        mode: whether the best of the last axis is its max or its min.
    """
    drawn = [_Drawn(axis, _x_of(number, len(axes))) for number, axis in enumerate(axes)]
    outcome = axes[-1].values
    rated = [(value, index) for index, value in enumerate(outcome) if value is not None and can_be_drawn(value)]
    worst_first = sorted(rated, reverse=mode == "min")
    lines = [
        _line(drawn, index, names[index], rank / max(1, len(worst_first) - 1))
        for rank, (_, index) in enumerate(worst_first)
    ]
    label = f"{len(lines)} runs by {', '.join(axis.name for axis in axes)}"
    body = [part for axis in drawn for part in axis.parts()]
    svg = element("svg", *lines, *body, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    return element("div", svg, class_="parallel", tabindex="0")


def _x_of(number: int, count: int) -> float:
    return LEFT + number * (WIDTH - LEFT - RIGHT) / max(1, count - 1)


class _Drawn:
    """An axis at its place: numbers on a scale, anything else at equal distances in the order of its words."""

    def __init__(self, axis: Axis, x: float):
        self.axis, self.x = axis, x
        there = [value for value in axis.values if value is not None]
        self.is_numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in there)
        self.is_whole = all(isinstance(value, int) for value in there)
        self.choices = sorted({words(value) for value in there})
        self.scale = scale_of(there) if self.is_numeric else Scale(-0.5, len(self.choices) - 0.5)

    def y(self, value: Any) -> float | None:
        """None where there is nothing to draw."""
        if value is None or (self.is_numeric and not can_be_drawn(value)):
            return None
        return self._y(value if self.is_numeric else self.choices.index(words(value)))

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.scale.at(value) * (HEIGHT - TOP - BOTTOM)

    def parts(self) -> Iterator[Markup]:
        """The axis with its name and numbers."""
        x = f"{self.x:.0f}"
        yield element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="axis")
        if self.x <= LEFT:
            name_x, anchor = "4", "start"
        elif self.x >= WIDTH - RIGHT:
            name_x, anchor = str(WIDTH - 4), "end"
        else:
            name_x, anchor = x, "middle"
        yield element("text", self.axis.name, x=name_x, y=14, class_=f"name {anchor}")
        numbers = [(tick, short(tick)) for tick in self.scale.ticks(integers=self.is_whole)]
        for place, text in numbers if self.is_numeric else enumerate(self.choices):
            yield element("text", text, x=f"{self.x + 5:.0f}", y=f"{self._y(place):.1f}", dy="0.32em", class_="tick")


def _line(axes: Sequence[_Drawn], index: int, name: str, share: float) -> Markup:
    path, pen = "", "M"
    for axis in axes:
        y = axis.y(axis.axis.values[index])
        if y is None:
            pen = "M"
            continue
        path += f"{pen}{axis.x:.0f} {y:.1f}"
        pen = "L"
    colour = VIRIDIS[round(share * (len(VIRIDIS) - 1))]
    return element("path", element("title", name), d=path, style=f"stroke:{colour}", data_name=name)
