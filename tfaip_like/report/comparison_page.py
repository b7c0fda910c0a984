"""The comparison of runs as a page: a table to sort, and their curves one over another."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tfaip_like.errors import counted
from tfaip_like.report.charts import Line, legend, line_chart
from tfaip_like.report.comparison import BEST, Column, Comparison
from tfaip_like.report.markup import Child, Markup, element, page, scrolled, section
from tfaip_like.report.page import LOOKS
from tfaip_like.report.parallel import Axis, parallel_coordinates
from tfaip_like.report.run import Run

IN_COLOUR = len(LOOKS)
"""So many of the first runs have a line with a look of its own; all others are grey."""
MOST_AXES = 8


def comparison_page(comparison: Comparison, place: Path | None = None) -> str:
    """The page.

    Args:
        place: where it will lie, for links to the reports of the runs.
    """
    scenarios = dict.fromkeys(run.scenario for run in comparison.runs)
    title = f"{counted(len(comparison.runs), 'run')} compared"
    named = zip(comparison.names, comparison.runs, strict=True)
    problems = [f"{name}: {problem}" for name, run in named for problem in run.problems]
    body = (
        element("p", ", ".join(scenarios), class_="kicker"),
        element("h1", title),
        element("p", "\n".join(problems), class_="problem") if problems else None,
        section("Outcome and what differs", _table(comparison, place)),
        section("Parameters and outcome", _parallel(comparison)),
        section("Curves", *_curves(comparison)),
        element("footer", f"Written by tfaip_like, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}."),
    )
    return page(title, *body)


def _table(comparison: Comparison, place: Path | None) -> Markup:
    columns = comparison.shown_columns()
    header = element("tr", (_head(column) for column in columns))
    rows = (
        element(
            "tr",
            element("th", _linked(comparison.names[index], run, place), scope="row", data_run=comparison.names[index]),
            (_cell(column, index, run) for column in columns[1:]),
        )
        for index, run in enumerate(comparison.runs)
    )
    whole = element("table", element("thead", header), element("tbody", *rows), class_="sortable comparison")
    return scrolled(whole)


def _head(column: Column) -> Markup:
    return element("th", column.title or column.name, scope="col", class_="number" if column.is_numeric else None)


def _linked(name: str, run: Run, place: Path | None) -> Child:
    if place is None or not run.folder.report.is_file():
        return name
    return element("a", name, href=quote(os.path.relpath(run.folder.report, place.resolve().parent)))


def _cell(column: Column, index: int, run: Run) -> Markup:
    value = column.values[index]
    content: Child = column.cells[index]
    if column.name == "status":
        content = element("span", content, class_=f"status {run.status}")
    is_empty = value is None or (isinstance(value, float) and not math.isfinite(value))
    key = "" if is_empty else value if column.is_numeric else None
    return element("td", content, class_="number" if column.is_numeric else None, data_key=key)


def _parallel(comparison: Comparison) -> Markup | None:
    """With enough runs and numbers that differ."""
    best = next(column for column in comparison.columns if column.name == BEST)
    rated = [value for value in best.values if value is not None and math.isfinite(value)]
    varied = [column for column in comparison.differing if column.name != "trainer.random_seed"]
    numeric = [column for column in varied if column.is_numeric]
    modes = {run.best.mode for run in comparison.runs if run.best}
    monitors = {run.best.monitor for run in comparison.runs if run.best}
    if len(rated) < 3 or len(numeric) < 2 or len(monitors) != 1:
        return None
    words = [column for column in varied if not column.is_numeric and len(set(column.cells)) <= 8]
    axes = [Axis(column.name, column.values) for column in [*numeric, *words][:MOST_AXES]]
    drawn = parallel_coordinates([*axes, Axis(best.title or best.name, best.values)], comparison.names, modes.pop())
    note = element("p", "A line for each run; the lighter, the better.", class_="note")
    return element("div", drawn, note)


def _curves(comparison: Comparison) -> Iterator[Markup]:
    """A chart for each loss and metric of validation, else of training."""
    looks = [LOOKS[index] if index < IN_COLOUR else "faint" for index in range(len(comparison.runs))]
    named = [Line(name, [], look) for name, look in zip(comparison.names, looks, strict=True)]
    if not any(run.history for run in comparison.runs):
        return
    yield element("div", legend(named[:IN_COLOUR]) or "", class_="key")
    if others := len(named) - IN_COLOUR if len(named) > IN_COLOUR else 0:
        yield element("p", f"In grey: {counted(others, 'other run')}.", class_="note")
    charts = [overlaid(title, comparison, columns, looks) for title, columns in _charts(comparison.runs)]
    yield element("div", *charts, class_="charts")


def _charts(runs: Sequence[Run]) -> Iterator[tuple[str, list[Sequence[tuple[int, float]]]]]:
    """The title of each chart and the values of each run."""
    metrics = dict.fromkeys(metric for run in runs for metric in run.curves)
    monitored = tuple({run.best.monitor for run in runs if run.best})

    def importance(metric: str) -> tuple[bool, bool]:
        return not any(name.endswith(metric) for name in monitored), metric != "loss"

    for metric in sorted(metrics, key=importance):
        kinds = dict.fromkeys(kind for run in runs for kind in run.curves.get(metric, ()))
        for kind in [kind for kind in kinds if kind != "train"] or ["train"]:
            title = f"{kind}_{metric}" if kind != "train" else metric
            yield title, [run.curves.get(metric, {}).get(kind, []) for run in runs]
        if metric == "loss" and len(kinds) > 1:
            yield metric, [run.curves.get(metric, {}).get("train", []) for run in runs]


def overlaid(
    title: str, comparison: Comparison, values: Sequence[Sequence[tuple[int, float]]], looks: Sequence[str]
) -> Markup:
    """One value of all runs by epoch, the grey ones below."""
    lines = [
        Line(name, curve, look, is_named=False)
        for name, curve, look in zip(comparison.names, values, looks, strict=True)
        if curve
    ]
    return line_chart(title, lines[::-1])
