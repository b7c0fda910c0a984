"""Several runs side by side: what differs in their parameters, and what became of each."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tfaip_like._report.formatting import NO_VALUE, format_cell, format_duration, format_flag_value, format_number
from tfaip_like._report.text_table import format_table
from tfaip_like._runs.reader import Run
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_csv_cell
from tfaip_like._utils.json_files import format_json

NAME, BEST = "run", "best"
EXCLUDED_PARAMS = ("trainer.output_dir",)
"""Differs in every run, and is its name."""
LAST_COLUMNS = ("trainer.random_seed", "trainer.description")
"""Differ often and say little: the last columns."""


@dataclass(frozen=True)
class Column:
    """A value of each run."""

    name: str
    values: Sequence[Any]
    """JSON values; None where a run has none."""
    formatter: Callable[[Any], str] = format_cell
    """A value as a person reads it."""
    title: str = ""
    """Its name for a person, where that says more."""

    @property
    def cells(self) -> list[str]:
        """The values as a person reads them."""
        return [NO_VALUE if value is None else self.formatter(value) for value in self.values]

    @property
    def is_numeric(self) -> bool:
        """Return whether every run that has a value has a number."""
        there = [value for value in self.values if value is not None]
        return bool(there) and all(is_number(value) for value in there)


@dataclass(frozen=True)
class Comparison:
    """Runs, of one scenario or of several, in the order in which they are shown."""

    runs: Sequence[Run]

    def sorted_by(self, name: str | None = None) -> Comparison:
        """The same runs in the order of a column; by default the best first, each by what its best epoch was found by.

        Raises:
            UsageError: when there is no such column.
        """
        best_first = Comparison(sorted(self.runs, key=_best_first_key))
        if name is None or name == BEST:
            return best_first
        values = best_first._find_column(name).values
        order = sorted(range(len(values)), key=lambda index: _sort_key(values[index]))
        return Comparison([best_first.runs[index] for index in order])

    @cached_property
    def names(self) -> list[str]:
        """Of the runs: the part of their paths that they do not share."""
        paths = [str(run.output_dir.path) for run in self.runs]
        if len(paths) == 1:
            return [self.runs[0].name]
        whole = [os.path.abspath(path) for path in paths]
        common = os.path.commonpath(whole)
        return [os.path.relpath(path, common) for path in whole]

    @cached_property
    def differing_params(self) -> list[Column]:
        """The parameters that are not the same in all runs."""
        names = dict.fromkeys(name for run in self.runs for name in run.parameters)
        columns = [Column(name, [run.parameters.get(name, _ABSENT) for run in self.runs]) for name in names]
        columns = [column for column in columns if column.name not in EXCLUDED_PARAMS and _differ(column.values)]
        shown = [
            Column(column.name, [_to_display_value(value) for value in column.values], format_flag_value)
            for column in columns
        ]
        return sorted(shown, key=lambda column: column.name in LAST_COLUMNS)

    @cached_property
    def columns(self) -> list[Column]:
        """The name of each run, its outcome, and the parameters that differ."""
        bests = [run.best for run in self.runs]
        last = [run.history[-1] if run.history else {} for run in self.runs]
        outcome = [
            Column("status", [run.status for run in self.runs]),
            Column("epochs", [len(run.history) for run in self.runs]),
            Column("best_epoch", [best.epoch if best else None for best in bests], title="best epoch"),
            Column("monitor", [best.monitor if best else None for best in bests]),
            Column(BEST, [best.value if best else None for best in bests], format_number, title=self._best_title),
            Column("loss", [row.get("loss") for row in last], format_number),
            Column("val_loss", [row.get("val_loss") for row in last], format_number),
            Column("seconds", [_round_seconds(run.seconds) for run in self.runs], format_duration, title="time"),
        ]
        return [Column(NAME, self.names), *outcome, *self.differing_params]

    @property
    def _best_title(self) -> str:
        monitors = {run.best.monitor for run in self.runs if run.best}
        return f"best {monitors.pop()}" if len(monitors) == 1 else BEST

    def shown_columns(self) -> list[Column]:
        """The columns that tell a person something: not what no run has, nor a monitor that all share."""
        return [
            column
            for column in self.columns
            if any(value is not None for value in column.values)
            and not (column.name == "monitor" and self._best_title != BEST)
        ]

    def table(self, width: int | None = None) -> str:
        """The comparison as text.

        Args:
            width: of the terminal; None cuts nothing off.
        """
        columns = self.shown_columns()
        titles = [column.title or column.name for column in columns]
        right = [column.is_numeric for column in columns]
        return format_table(titles, [column.cells for column in columns], right, width)

    def csv(self) -> str:
        """All columns, with values as they are."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(escape_csv_cell(column.name) for column in self.columns)
        for row in zip(*(column.values for column in self.columns), strict=True):
            writer.writerow("" if v is None else v if is_number(v) else escape_csv_cell(format_cell(v)) for v in row)
        return text.getvalue()

    def json(self) -> str:
        """A list with an object for each run; no number is written as null."""
        outcome = [column for column in self.columns if column not in self.differing_params]
        objects = [
            {
                **{column.name: _non_finite_to_none(column.values[index]) for column in outcome},
                "folder": str(run.output_dir.path),
                "scenario": run.scenario,
                "parameters": {
                    column.name: _non_finite_to_none(column.values[index]) for column in self.differing_params
                },
            }
            for index, run in enumerate(self.runs)
        ]
        return format_json(objects, indent=2)

    def _find_column(self, name: str) -> Column:
        by_name: Mapping[str, Column] = {column.name: column for column in self.columns}
        name = name.removeprefix("--")
        if name in by_name:
            return by_name[name]
        everywhere = {parameter for run in self.runs for parameter in run.parameters}
        if name in everywhere:
            raise UsageError(f"--sort {name}: is the same in all runs")
        near = difflib.get_close_matches(name, by_name, n=1) or [
            column for column in by_name if column.rpartition(".")[2] == name
        ]
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(by_name)}"
        raise UsageError(f"--sort {name}: there is no such column; {hint}")


_ABSENT = object()


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differ(values: Sequence[Any]) -> bool:
    return len({"absent" if value is _ABSENT else json.dumps(value, sort_keys=True) for value in values}) > 1


def _to_display_value(value: Any) -> Any:
    """None for a parameter that a run does not have, the word `none` for one that is None."""
    if value is _ABSENT:
        return None
    return format_flag_value(value) if value is None else value


def _best_first_key(run: Run) -> tuple[str, bool, float]:
    """Runs with the same monitor together, the best first, those without a value last."""
    best = run.best
    if best is None or best.value is None or math.isnan(best.value):
        return best.monitor if best else "", True, 0.0
    return best.monitor, False, -best.value if best.mode == "max" else best.value


def _sort_key(value: Any) -> tuple[int, float, str]:
    """Numbers, then words, then nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return 2, 0.0, ""
    return (0, float(value), "") if is_number(value) else (1, 0.0, format_flag_value(value))


def _round_seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _non_finite_to_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
