"""Comparison with a reference run (`--trainer.compare_to`)."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, OutputDir
from tfaip_like._runs.reader import Run, find_run_dirs
from tfaip_like._runs.run_files import Row
from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)

COMPARE_PREFIX = "compare_"
"""Prefix of the reference run's metrics."""
GAIN = "compare_gain"
"""Improvement of the monitored value over the reference run at the same epoch."""


def read_reference_history(run: Path) -> Sequence[Row]:
    """Return the history rows of a run, at least one.

    Raises:
        UsageError: if `run` is not a run directory, or its history is unreadable or empty.
    """
    try:
        run_dirs = find_run_dirs(run)
        if run_dirs != [run]:
            raise UsageError(f"{run}: contains several runs; choose one of them, such as {run_dirs[0]}")
        rows = Run(OutputDir(run)).history
        if not rows:
            raise UsageError(f"{run}: the run has not completed an epoch yet (no history.csv)")
    except UsageError as error:
        raise UsageError(f"--trainer.compare_to {error}") from error
    return rows


class RunComparison:
    """Metrics of a reference run, by epoch.

    Args:
        run: directory of the reference run.
        best: monitored metric and its mode.

    Raises:
        UsageError: see `read_reference_history`.
    """

    def __init__(self, run: Path, best: BestTracker):
        self.run = run
        self._best = best
        self._epochs: list[float] = []
        self._rows: list[dict[str, float]] = []
        latest: dict[str, float] = {}
        for row in read_reference_history(run):
            latest = {**latest, **row}  # the run may be validated every few epochs only
            self._epochs.append(row["epoch"])
            self._rows.append(latest)
        self._has_warned = False

    def values(self, row: Mapping[str, float]) -> dict[str, float]:
        """Return the columns to add to a row of the history.

        Validation metrics are compared, or training metrics in a run without validation, with the last values of the
        reference run up to the same epoch.
        """
        number = bisect.bisect_right(self._epochs, row["epoch"]) - 1
        reference = self._rows[number] if number >= 0 else {}
        prefix = "val_" if any(name.startswith("val_") for name in row) else ""
        names = [
            name for name in row if name.startswith(prefix) and name not in BOOKKEEPING_COLUMNS and name in reference
        ]
        values = {f"{COMPARE_PREFIX}{name.removeprefix(prefix)}": reference[name] for name in names}
        monitor = self._best.monitor
        if monitor in row and monitor in reference:
            difference = row[monitor] - reference[monitor]
            values[GAIN] = difference if self._best.mode == "max" else -difference
        if not values and not self._has_warned:
            logger.warning("--trainer.compare_to %s: no metrics in common with this run", self.run)
        self._has_warned = True
        return values
