"""Reader of run directories."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, RUN_MARKERS, OutputDir
from tfaip_like._runs.run_files import (
    RUN_INFO_FORMAT,
    RUN_SUMMARY_FORMAT,
    Row,
    RunInfo,
    RunSummary,
    read_history,
    read_metrics,
    read_run_file,
)
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json
from tfaip_like.params._files import PARAMS_FORMAT

Curve = Sequence[tuple[float, float]]
"""Pairs of epoch and value."""


@dataclass(frozen=True)
class Best:
    """Best epoch and the monitored value that selected it."""

    monitor: str
    mode: str | None = None
    """`min` or `max`."""
    epoch: float | None = None
    value: float | None = None


class Run:
    """Contents of a run directory, the only reader of its files; each is read when it is first used.

    A missing file reads as empty, since a run writes its files one after the other. Without `problems`, the first
    damaged file or value raises `UsageError`, which names the file and the key or line.

    Args:
        output_dir: run directory.
        problems: list to append a message to for each damaged file or value, which is then omitted.
    """

    def __init__(self, output_dir: OutputDir, problems: list[str] | None = None):
        self.output_dir = output_dir
        self._problems = problems

    @property
    def problems(self) -> Sequence[str]:
        """Return the messages about the files and values that could not be read so far."""
        return self._problems or ()

    @cached_property
    def info(self) -> RunInfo:
        """Return the content of `run.json`."""
        return read_run_file(RUN_INFO_FORMAT, self.output_dir.run, self._problems)

    @cached_property
    def summary(self) -> RunSummary:
        """Return the content of `summary.json`, written when the run last ended."""
        return read_run_file(RUN_SUMMARY_FORMAT, self.output_dir.summary, self._problems)

    @cached_property
    def history(self) -> Sequence[Row]:
        """Return the values of each evaluation: at the end of each epoch, and within it if validated there."""
        return read_history(self.output_dir.history, self._problems)

    def read_recent_history(self, num_rows: int) -> Sequence[Row]:
        """Return the last rows of the history; faster than `history`, for the status of many runs."""
        return read_history(self.output_dir.history, self._problems, last=num_rows)

    @property
    def num_epochs(self) -> int:
        """Number of completed epochs."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @cached_property
    def best_metrics(self) -> Mapping[str, float]:
        """Return the epoch and metrics of the best export, written when an epoch is the best so far."""
        return read_metrics(self.output_dir.best, self._problems)

    @cached_property
    def parameter_tree(self) -> Mapping[str, Json]:
        """Return the content of `trainer_params.json`."""
        return read_run_file(PARAMS_FORMAT, self.output_dir.trainer_params, self._problems)

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """Return all parameters as JSON values by flag without dashes: `model.graph.units`."""
        return flatten_params(self.parameter_tree)

    @cached_property
    def status(self) -> str:
        """Return `running`, `done`, `stopped`, `failed`, `killed` or `unknown`."""
        status = self.info.get("status", "unknown")
        if status in ("running", "unknown") and self.output_dir.is_locked():
            return "running"
        return "killed" if status == "running" else status

    @property
    def start_time(self) -> float | None:
        """Return the time of the first start of the run in seconds since 1970; None if unknown."""
        try:
            return datetime.fromisoformat(self.info.get("started", "")).timestamp()
        except ValueError:
            return None

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.output_dir.path.resolve().name

    @property
    def scenario(self) -> str:
        """Scenario class as `module:Class`."""
        return str(self.info.get("scenario") or self.parameters.get("class") or "an unknown scenario")

    @property
    def non_default_params(self) -> Mapping[str, str]:
        """Return the parameters that differ from their defaults, as words by flag without dashes."""
        flags = self.info.get("parameters") or self.summary.get("parameters") or {}
        return {flag.removeprefix("--"): words for flag, words in flags.items()}

    @property
    def seconds(self) -> float | None:
        """Training time in seconds, without validation."""
        return sum(row.get("seconds", 0.0) for row in self.history) if self.history else None

    @cached_property
    def best(self) -> Best | None:
        """Best epoch so far; None if the monitored value is unknown."""
        known: dict[str, Any] = {**(self.summary.get("best") or {}), **(self.info.get("best_by") or {})}
        if not known.get("monitor"):
            return None
        best = Best(str(known["monitor"]), known.get("mode"))
        values = [(row[best.monitor], row["epoch"]) for row in self.history if best.monitor in row]
        values = [(value, epoch) for value, epoch in values if not math.isnan(value)]
        if self._is_summary_current and known.get("epoch") is not None:
            return Best(best.monitor, best.mode, known["epoch"], known.get("value"))
        if not values or best.mode not in ("min", "max"):
            return best
        value, epoch = min(values) if best.mode == "min" else max(values, key=lambda pair: (pair[0], -pair[1]))
        return Best(best.monitor, best.mode, epoch, value)

    @property
    def _is_summary_current(self) -> bool:
        """Return whether the summary describes the last epoch, not one before a resume."""
        last = (self.summary.get("last") or {}).get("epoch")
        return bool(self.history) and last == self.history[-1]["epoch"]

    @cached_property
    def prefixes(self) -> Mapping[str, str]:
        """Return the kinds of validation (`val`, `lav`, `lav_LIST`) by the prefix of their columns.

        Values of an earlier run (`compare`) count as a kind.
        """
        kinds = [kind for kind in self.info.get("data") or () if kind != "train"] or ["val", "lav"]
        kinds += ["compare"] if self.parameters.get("trainer.compare_to") is not None else []
        return {f"{kind}_": kind for kind in sorted(kinds, key=len, reverse=True)}

    @cached_property
    def curves(self) -> Mapping[str, Mapping[str, Curve]]:
        """Return the values of each loss and metric, by its name and then by `train` or the kind of validation.

        If the model has a single loss, which equals the total loss, only the total is included.
        """
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for column in dict.fromkeys(name for row in self.history for name in row):
            if column not in BOOKKEEPING_COLUMNS:
                prefix = next((prefix for prefix in self.prefixes if column.startswith(prefix)), "")
                metric = column.removeprefix(prefix)
                found.setdefault(metric, {})[self.prefixes.get(prefix, "train")] = self.column_values(column)
        sums = found.get("loss")
        same = [name for name in found if name != "loss" and sums and found[name].get("train") == sums.get("train")]
        return {name: kinds for name, kinds in found.items() if name not in same}

    def column_values(self, column: str) -> list[tuple[float, float]]:
        """Return (epoch, value) for the rows that have a value in a column."""
        return [(row["epoch"], row[column]) for row in self.history if column in row]

    def row_at_epoch(self, epoch: float | None) -> Row:
        """Return the row after this many epochs; empty if there is none."""
        return next((row for row in self.history if row["epoch"] == epoch), {})


def read_run(path: Path) -> Run:
    """Read a run directory completely; files and values that cannot be read are reported in `problems`."""
    run = Run(OutputDir(path), [])
    # The status first: a run that ends meanwhile must not look killed.
    _ = run.status, run.summary, run.history, run.parameters
    return run


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read all runs in and below some directories, each once.

    Raises:
        UsageError: for a directory that does not exist or contains no run.
    """
    run_dirs: dict[Path, Path] = {}
    for path in paths:
        for run in find_run_dirs(path):
            run_dirs.setdefault(run.resolve(), run)
    return [read_run(path) for path in run_dirs.values()]


def find_run_dirs(path: Path) -> list[Path]:
    """Return the run directories in and below a directory.

    Raises:
        UsageError: if the directory does not exist or contains no run.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such directory")
    if not path.is_dir():
        raise UsageError(f"{path}: not a directory; pass a run directory, or a directory with runs below it")
    runs = list(iter_run_dirs(path))
    if not runs:
        raise UsageError(f"{path}: no run directory found in or below it (run directories contain a run.json)")
    return runs


def iter_run_dirs(path: Path) -> Iterator[Path]:
    """Yield the run directories in and below a directory, ordered by name."""
    for parent, folders, files in os.walk(path):
        folders.sort(key=_natural_sort_key)
        if set(RUN_MARKERS) & set(files):
            folders.clear()
            yield Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]


def _natural_sort_key(name: str) -> list[str | int]:
    """Return a sort key that orders `run_2` before `run_10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def flatten_params(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a JSON parameter tree by flag without dashes; variants are included by class name."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        here = f"{prefix}.{name}" if prefix else name
        if name == "class" and isinstance(value, str):
            leaves[prefix or "class"] = value.rpartition(":")[2] if prefix else value
        elif isinstance(value, dict) and value:
            leaves |= flatten_params(value, here)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            leaves |= flatten_params({str(index): item for index, item in enumerate(value)}, here)
        else:
            leaves[here] = value
    return leaves
