"""A run, read from its folder: running, ended or killed, and as much of it as can be read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, OutputDir
from tfaip_like._runs.run_files import Row, RunInfo, RunSummary, read_history, read_run_file
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_json_object

Curve = Sequence[tuple[int, float]]
"""Epochs and values."""


@dataclass(frozen=True)
class Best:
    """The best epoch, and by what it was found."""

    monitor: str
    mode: str | None = None
    """min or max."""
    epoch: int | None = None
    value: float | None = None


@dataclass(frozen=True)
class Run:
    """What a folder tells of its run."""

    output_dir: OutputDir
    status: str
    """running, done, stopped, failed, killed; unknown where nothing says."""
    info: RunInfo
    """As in `run.json`."""
    summary: RunSummary
    """As in `summary.json`, of the time when the run last ended."""
    history: Sequence[Row]
    """A row per epoch."""
    parameters: Mapping[str, Any]
    """All of them, as JSON values by their flags without dashes: `model.graph.units`."""
    problems: Sequence[str]
    """What could not be read."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.output_dir.path.resolve().name

    @property
    def scenario(self) -> str:
        """Its class as `module:Class`."""
        return str(self.info.get("scenario") or self.parameters.get("class") or "an unknown scenario")

    @property
    def non_default_params(self) -> Mapping[str, str]:
        """The parameters that differ from their defaults, in words, by their flags without dashes."""
        flags = self.info.get("parameters") or self.summary.get("parameters") or {}
        return {flag.removeprefix("--"): words for flag, words in flags.items()}

    @property
    def seconds(self) -> float | None:
        """How long all epochs trained, without validation."""
        return sum(row.get("seconds", 0.0) for row in self.history) if self.history else None

    @cached_property
    def best(self) -> Best | None:
        """The best epoch so far; None if nothing says how it is found."""
        known: dict[str, Any] = {**(self.summary.get("best") or {}), **(self.info.get("best_by") or {})}
        if not known.get("monitor"):
            return None
        best = Best(str(known["monitor"]), known.get("mode"))
        values = [(row[best.monitor], int(row["epoch"])) for row in self.history if best.monitor in row]
        values = [(value, epoch) for value, epoch in values if not math.isnan(value)]
        if self._is_summary_current and known.get("epoch") is not None:
            return Best(best.monitor, best.mode, known["epoch"], known.get("value"))
        if not values or best.mode not in ("min", "max"):
            return best
        value, epoch = min(values) if best.mode == "min" else max(values, key=lambda pair: (pair[0], -pair[1]))
        return Best(best.monitor, best.mode, epoch, value)

    @property
    def _is_summary_current(self) -> bool:
        """Return whether the summary is of the last epoch, not of one before the run went on."""
        last = (self.summary.get("last") or {}).get("epoch")
        return bool(self.history) and last == self.history[-1]["epoch"]

    @cached_property
    def prefixes(self) -> Mapping[str, str]:
        """The kinds of validation, `val`, `lav`, `lav_LIST`, by what the names of their columns begin with.

        Values of an earlier run (`compare`) are one more kind.
        """
        kinds = [kind for kind in self.info.get("data") or () if kind != "train"] or ["val", "lav"]
        kinds += ["compare"] if self.parameters.get("trainer.compare_to") is not None else []
        return {f"{kind}_": kind for kind in sorted(kinds, key=len, reverse=True)}

    @cached_property
    def curves(self) -> Mapping[str, Mapping[str, Curve]]:
        """The values of each loss and metric: by its name, then by `train` or the kind of validation.

        Of a model with one loss, which is the sum as well, only the sum.
        """
        found: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for column in dict.fromkeys(name for row in self.history for name in row):
            if column not in BOOKKEEPING_COLUMNS:
                prefix = next((prefix for prefix in self.prefixes if column.startswith(prefix)), "")
                metric = column.removeprefix(prefix)
                found.setdefault(metric, {})[self.prefixes.get(prefix, "train")] = self.column_values(column)
        sums = found.get("loss")
        same = [name for name in found if name != "loss" and sums and found[name].get("train") == sums.get("train")]
        return {name: kinds for name, kinds in found.items() if name not in same}

    def column_values(self, column: str) -> list[tuple[int, float]]:
        """The epochs that have a value in a column, and the values."""
        return [(int(row["epoch"]), row[column]) for row in self.history if column in row]

    def row_at_epoch(self, epoch: int | None) -> Row:
        """The values of an epoch, none if it is not known."""
        return next((row for row in self.history if row["epoch"] == epoch), {})


def read_run(path: Path) -> Run:
    """Reads what there is of a run; what cannot be read is told in `problems`."""
    folder, problems = OutputDir(path), list[str]()
    record = read_run_file(RunInfo, folder.run, problems)
    return Run(
        output_dir=folder,
        status=_resolve_status(folder, record),
        info=record,
        summary=read_run_file(RunSummary, folder.summary, problems),
        history=read_history(folder.history, problems),
        parameters=flatten_params(_read_parameters(folder.trainer_params, problems)),
        problems=problems,
    )


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in some folders and anywhere below them, each once.

    Raises:
        UsageError: for a folder that is not there, or without a run.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for run in find_run_dirs(path):
            found.setdefault(run.resolve(), run)
    return [read_run(path) for path in found.values()]


def find_run_dirs(path: Path) -> list[Path]:
    """Return the folders of the runs in a folder and below it.

    Raises:
        UsageError: if there is no such folder, or no run in it.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such folder")
    if not path.is_dir():
        raise UsageError(f"{path}: is a file; name the folder of a run, or one with runs below it")
    runs = list(iter_run_dirs(path))
    if not runs:
        raise UsageError(f"{path}: there is no run in this folder or below it (a run has a run.json)")
    return runs


def iter_run_dirs(path: Path) -> Iterator[Path]:
    """The folders of runs in a folder and below, in the order of their names."""
    for parent, folders, files in os.walk(path):
        folders.sort(key=_natural_sort_key)
        if {"run.json", "trainer_params.json", "history.csv"} & set(files):
            folders.clear()
            yield Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]


def _natural_sort_key(name: str) -> list[str | int]:
    """Orders `run_2` before `run_10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def flatten_params(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The leaves of a parameter tree by their flags; of a variant the name of its class, too."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        here = f"{place}.{name}" if place else name
        if name == "class" and isinstance(value, str):
            leaves[place or "class"] = value.rpartition(":")[2] if place else value
        elif isinstance(value, dict) and value:
            leaves |= flatten_params(value, here)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            leaves |= flatten_params({str(index): item for index, item in enumerate(value)}, here)
        else:
            leaves[here] = value
    return leaves


def _resolve_status(folder: OutputDir, record: RunInfo) -> str:
    status = str(record.get("status", "unknown"))
    if status in ("running", "unknown") and folder.is_locked():
        return "running"
    return "killed" if status == "running" else status


def _read_parameters(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return read_json_object(path) if path.exists() else {}
    except UsageError as error:
        problems.append(str(error))
        return {}
