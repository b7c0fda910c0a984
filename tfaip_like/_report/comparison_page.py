"""HTML page of a comparison of runs: sortable table and overlaid curves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tfaip_like._report.charts import (
    MAX_POINTS_PER_LINE,
    MIN_POINTS_PER_LINE,
    Line,
    legend,
    line_chart,
    points_per_line,
)
from tfaip_like._report.comparison import BEST, LAST_COLUMNS, Column, Comparison
from tfaip_like._report.markup import Child, Markup, element, join_markup, page, section
from tfaip_like._report.parallel_coordinates import Axis, parallel_coordinates
from tfaip_like._report.run_page import NUM_LINE_STYLES
from tfaip_like._runs.reader import Curve, Run
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.files import encode_text

MAX_COLOURED_RUNS = NUM_LINE_STYLES
"""Number of runs with an individual line style; the others are grey."""
MAX_PAGE_BYTES = 1_900_000
"""Maximum size of the page, which limits the number of points of the curves."""
BYTES_PER_POINT = 14


def render_comparison(comparison: Comparison, place: Path | None = None) -> str:
    """Return the HTML page.

    Args:
        comparison: Comparison to show.
        place: Path of the page, for links to the reports of the runs; None for no links.
    """
    scenarios = dict.fromkeys(run.scenario for run in comparison.runs)
    title = f"{pluralize(len(comparison.runs), 'run')} compared"
    named = zip(comparison.names, comparison.runs, strict=True)
    problems = [f"{name}: {problem}" for name, run in named for problem in run.problems]
    above = join_markup(
        element("p", ", ".join(scenarios), class_="kicker"),
        element("h1", title),
        element("p", "\n".join(problems), class_="problem") if problems else None,
        section("Outcome and differing parameters", _table(comparison, place)),
        section("Parameters and outcome", _parallel_coordinates(comparison)),
    )
    footer = element("footer", f"Written by tfaip_like, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}.")
    remaining = MAX_PAGE_BYTES - len(encode_text(page(title, above, footer, library="echarts")))
    curves = section("Curves", *_curves(comparison, remaining // BYTES_PER_POINT))
    return page(title, above, curves, footer, library="echarts")


def _table(comparison: Comparison, place: Path | None) -> Markup:
    columns = comparison.shown_columns()
    header = element("tr", (element("th", column.title or column.name, scope="col") for column in columns))
    rows = (
        element(
            "tr",
            element("th", _link_to_report(comparison.names[index], run, place), scope="row"),
            (_cell(column, index, run) for column in columns[1:]),
            data_run=index,
        )
        for index, run in enumerate(comparison.runs)
    )
    content = element("table", element("thead", header), element("tbody", *rows), class_="sortable comparison")
    # One style rule per numeric column: a class for each cell would make a page of 400 runs a third larger.
    cells = ", ".join(f".comparison :nth-child({n})" for n, column in enumerate(columns, 1) if column.is_numeric)
    style = element("style", Markup(f"{cells} {{ text-align: right; }}")) if cells else None
    return element("div", style, element("div", content, class_="wide tall", tabindex="0"))


def _link_to_report(name: str, run: Run, place: Path | None) -> Child:
    if place is None or not run.output_dir.report.is_file():
        return name
    return element("a", name, href=quote(os.fsencode(os.path.relpath(run.output_dir.report, place.resolve().parent))))


def _cell(column: Column, index: int, run: Run) -> Markup:
    value = column.values[index]
    content: Child = column.cells[index]
    if column.name == "status":
        return element("td", element("span", content, class_=f"status {run.status}"))
    is_empty = value is None or (isinstance(value, float) and not math.isfinite(value))
    key = "" if is_empty else value if column.is_numeric else None
    return element("td", content, data_key=None if str(key) == content else key)


def _parallel_coordinates(comparison: Comparison) -> Markup | None:
    """Return parallel coordinates, or None for fewer than three runs, different monitors or one differing parameter."""
    best = next(column for column in comparison.columns if column.name == BEST)
    rated = [value for value in best.values if value is not None and math.isfinite(value)]
    varied = [column for column in comparison.differing_params if column.name not in LAST_COLUMNS]
    modes = {run.best.mode for run in comparison.runs if run.best}
    monitors = {run.best.monitor for run in comparison.runs if run.best}
    if len(rated) < 3 or len(varied) < 2 or len(monitors) != 1:
        return None
    parameters = [Axis(column.name, column.values) for column in varied]
    outcome = Axis(best.title or best.name, best.values)
    drawn = parallel_coordinates(outcome, parameters, comparison.names, modes.pop())
    note = (
        "One line per run; lighter is better. Parameters are sorted by their rank correlation with the outcome. "
        "Drag along an axis to select runs; click it to clear the selection."
    )
    return element("div", drawn, element("p", note, class_="note"))


def _curves(comparison: Comparison, points: int) -> Iterator[Markup]:
    """Yield a chart for each validation loss and metric, or training metric without validation.

    Args:
        comparison: Comparison to show.
        points: Maximum number of points of all lines together.
    """
    if not any(run.history for run in comparison.runs):
        return
    named = [Line(name, [], look) for look, name in enumerate(comparison.names[:MAX_COLOURED_RUNS])]
    yield element("div", legend(named) or "", class_="key")
    if (others := len(comparison.runs) - MAX_COLOURED_RUNS) > 0:
        yield element("p", f"In grey: {pluralize(others, 'other run')}.", class_="note")
    charts = list(_charts(comparison.runs))
    fitting = max(1, points // (MIN_POINTS_PER_LINE * len(comparison.runs)))
    most = points_per_line(len(charts[:fitting]) * len(comparison.runs), points)
    drawn = [overlay_chart(title, comparison.names, curves, most) for title, curves in charts[:fitting]]
    yield element("div", *drawn, class_="charts")
    if omitted := [title for title, _ in charts[fitting:]]:
        yield element("p", f"Omitted to limit the size of the page: {', '.join(omitted)}.", class_="note")


def _charts(runs: Sequence[Run]) -> Iterator[tuple[str, list[Curve]]]:
    """Yield the title of each chart and the curve of each run, monitored metrics and losses first."""
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


def overlay_chart(
    title: str, names: Sequence[str], curves: Sequence[Curve], max_points: int = MAX_POINTS_PER_LINE
) -> Markup:
    """Return a chart of one metric of all runs by epoch, with grey lines in the background.

    Args:
        title: Title of the chart.
        names: Names of the runs.
        curves: Curve of each run; empty for runs without the metric.
        max_points: Maximum number of points of each line.
    """
    lines = [
        Line(name, curve, index if index < MAX_COLOURED_RUNS else None, run=index)
        for index, (name, curve) in enumerate(zip(names, curves, strict=True))
        if curve
    ]
    return line_chart(title, lines[::-1], has_legend=False, max_points=max_points)
