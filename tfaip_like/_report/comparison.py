"""Comparison of several runs: outcomes and the parameters that differ."""

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
from tfaip_like._runs.run_files import DataFingerprint, format_epoch
from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.escaping import escape_csv_cell
from tfaip_like._utils.json_files import format_json
from tfaip_like.params._field_rules import ShownLast, UniquePerRun, field_rules
from tfaip_like.settings import Trainer

NAME, BEST = "run", "best"
EXCLUDED_PARAMS = [f"trainer.{name}" for name in field_rules(Trainer, UniquePerRun)]
"""Parameters that differ in every run; shown as its name."""
LAST_COLUMNS = [f"trainer.{name}" for name in field_rules(Trainer, ShownLast)]
"""Parameters that often differ without being informative."""


@dataclass(frozen=True)
class Column:
    """Column of the table, with one value per run."""

    name: str
    values: Sequence[Any]
    """JSON values; None for runs without a value."""
    formatter: Callable[[Any], str] = format_cell
    """Function that formats a value for display."""
    title: str = ""
    """Displayed name; by default `name`."""

    @property
    def cells(self) -> list[str]:
        """Formatted values."""
        return [NO_VALUE if value is None else self.formatter(value) for value in self.values]

    @property
    def is_numeric(self) -> bool:
        """Return whether all present values are numbers."""
        present_values = [value for value in self.values if value is not None]
        return bool(present_values) and all(is_number(value) for value in present_values)


@dataclass(frozen=True)
class Comparison:
    """Runs of one or several scenarios, in display order."""

    runs: Sequence[Run]

    def sorted_by(self, name: str | None = None) -> Comparison:
        """Return the runs sorted by a column; by default by their monitored metric, the best first.

        Args:
            name: Name of a column.

        Raises:
            UsageError: If there is no such column.
        """
        best_first = Comparison(sorted(self.runs, key=_best_first_key))
        if name is None or name == BEST:
            return best_first
        values = best_first._find_column(name).values
        order = sorted(range(len(values)), key=lambda index: _sort_key(values[index]))
        return Comparison([best_first.runs[index] for index in order])

    @cached_property
    def names(self) -> list[str]:
        """Return the names of the runs: their paths relative to the common parent."""
        paths = [str(run.output_dir.path) for run in self.runs]
        if len(paths) == 1:
            return [self.runs[0].name]
        absolute_paths = [os.path.abspath(path) for path in paths]
        common = os.path.commonpath(absolute_paths)
        return [os.path.relpath(path, common) for path in absolute_paths]

    @cached_property
    def differing_params(self) -> list[Column]:
        """Return the columns of the parameters that differ between runs."""
        names = dict.fromkeys(name for run in self.runs for name in run.parameters)
        columns = [Column(name, [run.parameters.get(name, _ABSENT) for run in self.runs]) for name in names]
        columns = [column for column in columns if column.name not in EXCLUDED_PARAMS and _differ(column.values)]
        formatted = [
            Column(column.name, [_to_display_value(value) for value in column.values], format_flag_value)
            for column in columns
        ]
        return sorted(formatted, key=lambda column: column.name in LAST_COLUMNS)

    @cached_property
    def columns(self) -> list[Column]:
        """Return all columns: name of the run, outcome, and the parameters that differ."""
        bests = [run.best for run in self.runs]
        last = [run.history[-1] if run.history else {} for run in self.runs]
        outcome = [
            Column("status", [run.status for run in self.runs]),
            Column("epochs", [run.num_epochs for run in self.runs]),
            Column("best_epoch", [best.epoch if best else None for best in bests], format_epoch, "best epoch"),
            Column("monitor", [best.monitor if best else None for best in bests]),
            Column(BEST, [best.value if best else None for best in bests], format_number, title=self._best_title),
            Column("loss", [row.get("loss") for row in last], format_number),
            Column("val_loss", [row.get("val_loss") for row in last], format_number),
            Column("seconds", [_round_seconds(run.seconds) for run in self.runs], format_duration, title="time"),
        ]
        return [Column(NAME, self.names), *outcome, *self.differing_data, *self.differing_params]

    @cached_property
    def differing_data(self) -> list[Column]:
        """Return the columns of the data that differ between runs, such as `train_data`."""
        fingerprints = [run.info.get("data_fingerprints") or {} for run in self.runs]
        columns = []
        for kind in dict.fromkeys(kind for each in fingerprints for kind in each):
            values = [_describe_data(each[kind]) if kind in each else None for each in fingerprints]
            if len({value for value in values if value is not None}) > 1:
                columns.append(Column(f"{kind}_data", values, title=f"{kind} data"))
        return columns

    @property
    def _best_title(self) -> str:
        monitors = {run.best.monitor for run in self.runs if run.best}
        return f"best {monitors.pop()}" if len(monitors) == 1 else BEST

    def shown_columns(self) -> list[Column]:
        """Return the columns to display: without empty ones, and without a monitor that all runs share."""
        return [
            column
            for column in self.columns
            if any(value is not None for value in column.values)
            and not (column.name == "monitor" and self._best_title != BEST)
        ]

    def table(self, width: int | None = None) -> str:
        """Return the comparison as a text table.

        Args:
            width: Width of the terminal in characters; None for unlimited.
        """
        columns = self.shown_columns()
        titles = [column.title or column.name for column in columns]
        right = [column.is_numeric for column in columns]
        return format_table(titles, [column.cells for column in columns], right, width)

    def csv(self) -> str:
        """Return all columns with unformatted values as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(escape_csv_cell(column.name) for column in self.columns)
        for row in zip(*(column.values for column in self.columns), strict=True):
            writer.writerow("" if v is None else v if is_number(v) else escape_csv_cell(format_cell(v)) for v in row)
        return text.getvalue()

    def json(self) -> str:
        """Return a JSON list with one object per run; non-finite numbers are written as null."""
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
        all_params = {parameter for run in self.runs for parameter in run.parameters}
        if name in all_params:
            raise UsageError(f"--sort {name}: this parameter is the same in all runs")
        near = difflib.get_close_matches(name, by_name, n=1) or [
            column for column in by_name if column.rpartition(".")[2] == name
        ]
        hint = f"did you mean {near[0]}?" if near else f"available: {', '.join(by_name)}"
        raise UsageError(f"--sort {name}: no such column; {hint}")


_ABSENT = object()


def _describe_data(data: DataFingerprint) -> str:
    """Return the number of samples and the begin of the hash, such as `1200 samples 3f2a9c1b`."""
    count = "a stream" if data["samples"] is None else pluralize(data["samples"], "sample")
    return f"{count} {data['sha256'][:8]}".strip()


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differ(values: Sequence[Any]) -> bool:
    return len({"absent" if value is _ABSENT else json.dumps(value, sort_keys=True) for value in values}) > 1


def _to_display_value(value: Any) -> Any:
    """Return None for a parameter that a run lacks, and the string `none` for a value of None."""
    if value is _ABSENT:
        return None
    return format_flag_value(value) if value is None else value


def _best_first_key(run: Run) -> tuple[str, bool, float]:
    """Return a key that groups runs by monitor, the best first and those without a value last."""
    best = run.best
    if best is None or best.value is None or math.isnan(best.value):
        return best.monitor if best else "", True, 0.0
    return best.monitor, False, -best.value if best.mode == "max" else best.value


def _sort_key(value: Any) -> tuple[int, float, str]:
    """Return a key that sorts numbers before strings before missing values."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return 2, 0.0, ""
    return (0, float(value), "") if is_number(value) else (1, 0.0, format_flag_value(value))


def _round_seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _non_finite_to_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
