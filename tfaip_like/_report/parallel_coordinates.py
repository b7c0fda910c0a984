"""Parallel coordinates: one axis for the outcome and for each parameter, one line per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._report.charts import is_drawable, is_logarithmic
from tfaip_like._report.formatting import format_flag_value
from tfaip_like._report.markup import Markup, element, json_script

MAX_CHOICES = 20
"""Maximum number of distinct strings on an axis."""
MAX_AXES = 40
MAX_NAME_LENGTH = 18
"""Maximum number of characters per line of an axis title."""


@dataclass(frozen=True)
class Axis:
    """Axis with one value per run; None for runs without a value."""

    name: str
    values: Sequence[Any]

    @property
    def is_numeric(self) -> bool:
        """Return whether all present values are numbers."""
        present_values = [value for value in self.values if value is not None]
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present_values)

    @property
    def choices(self) -> list[str]:
        """Return the sorted distinct values as strings."""
        return sorted({format_flag_value(value) for value in self.values if value is not None})

    def positions(self) -> list[float | None]:
        """Return the position of each run on the axis: its number, or the index of its string in the choices."""
        if self.is_numeric:
            return [value if value is not None and is_drawable(value) else None for value in self.values]
        index = {choice: place for place, choice in enumerate(self.choices)}
        return [None if value is None else index[format_flag_value(value)] for value in self.values]


def parallel_coordinates(outcome: Axis, parameters: Sequence[Axis], names: Sequence[str], mode: str | None) -> Markup:
    """Return parallel coordinates of the runs with an outcome, coloured by it.

    The outcome comes first, then the parameters in descending order of their association with it.

    Args:
        outcome: Axis of the outcome.
        parameters: Axes of the parameters.
        names: Names of the runs.
        mode: `min` or `max`, whichever outcome is best.
    """
    readable = [axis for axis in parameters if axis.is_numeric or len(axis.choices) <= MAX_CHOICES]
    by_association = sorted(readable, key=lambda axis: -association(axis, outcome))
    axes = [outcome, *by_association[:MAX_AXES]]
    positions = [axis.positions() for axis in axes]
    rated = [index for index, value in enumerate(positions[0]) if value is not None]
    worst_first = sorted(rated, key=lambda index: positions[0][index] or 0.0, reverse=mode == "min")
    values = {
        "kind": "parallel",
        "axes": [_axis_data(axis, short_name) for axis, short_name in zip(axes, short_names(axes), strict=True)],
        "runs": [
            {"run": index, "name": names[index], "rank": round(rank / max(1, len(worst_first) - 1), 3),
             "values": [place[index] for place in positions]}
            for rank, index in enumerate(worst_first)
        ],
    }  # fmt: skip
    label = f"{len(rated)} runs by {', '.join(axis.name for axis in axes)}"
    plot = element("div", class_="plot", role="img", aria_label=label, style=f"min-width:{len(axes) * 8.5:g}rem")
    return element(
        "figure", element("div", plot, class_="wide", tabindex="0"), json_script(values), class_="parallel chart"
    )


def association(axis: Axis, outcome: Axis) -> float:
    """Return the association between an axis and the ranks of the outcome, in [0, 1].

    For numbers it is the absolute rank correlation (Spearman, 1904), for strings the correlation ratio of the ranks
    (Pearson, 1905).
    """
    pairs = [
        (a, o) for a, o in zip(axis.positions(), outcome.positions(), strict=True) if a is not None and o is not None
    ]
    if len(pairs) < 2:
        return 0.0
    axis_values, results = np.array(pairs, np.float64).T
    ranks = _ranks(results)
    if ranks.std() == 0:
        return 0.0
    if axis.is_numeric:
        axis_ranks = _ranks(axis_values)
        return float(abs(np.corrcoef(axis_ranks, ranks)[0, 1])) if axis_ranks.std() else 0.0
    means = np.array([ranks[axis_values == choice].mean() for choice in axis_values])
    return float(means.std() / ranks.std())


def short_names(axes: Sequence[Axis]) -> list[str]:
    """Return the shortest unique suffixes of dotted names, such as `dropout` for `model.dropout`."""
    names = [axis.name for axis in axes]
    return [_shortest_unique_suffix(name, [other for other in names if other != name]) for name in names]


def _shortest_unique_suffix(name: str, others: Sequence[str]) -> str:
    parts = name.split(".")
    ends = (".".join(parts[first:]) for first in range(len(parts) - 1, -1, -1))
    return next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)), name)


def _axis_data(axis: Axis, short_name: str) -> dict[str, Any]:
    values: dict[str, Any] = {"name": _split_axis_name(short_name), "whole_name": axis.name}
    if not axis.is_numeric:
        return {**values, "choices": axis.choices}
    present_values = [value for value in axis.values if value is not None]
    return {
        **values,
        "log": is_logarithmic(present_values),
        "whole": all(isinstance(value, int) for value in present_values),
    }


def _split_axis_name(name: str) -> str:
    """Return a dotted name on two lines, the last component on the second, truncated to the width of an axis."""
    group, _, last = name.rpartition(".")
    lines = [f"{group}."] if group else []
    return "\n".join(
        line if len(line) <= MAX_NAME_LENGTH else f"{line[: MAX_NAME_LENGTH - 1]}…" for line in [*lines, last]
    )


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ranks; ties get the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]
