"""Comparison to an earlier run: its values of each epoch, and how much this one is better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, OutputDir
from tfaip_like._runs.reader import find_run_dirs
from tfaip_like._runs.run_files import read_history
from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)

COMPARE_PREFIX = "compare_"
"""How names of values of the earlier run begin."""
GAIN = "compare_gain"
"""How much the monitored value is better than that of the earlier run at the same epoch."""


def read_reference_history(run: Path) -> list[dict[str, float]]:
    """Return the rows of the history of an earlier run, at least one.

    Raises:
        UsageError: if this is not the folder of a run, or its history cannot be read or is empty.
    """
    try:
        found = find_run_dirs(run)
        if found != [run]:
            raise UsageError(f"{run}: not a run itself, but a folder with runs; name one of them, such as {found[0]}")
        rows = read_history(OutputDir(run).history)
        if not rows:
            raise UsageError(f"{run}: this run has not finished an epoch yet (it has no history.csv)")
    except UsageError as error:
        raise UsageError(f"--trainer.compare_to {error}") from error
    return rows


class RunComparison:
    """The values of an earlier run, by epoch.

    Args:
        run: its folder.
        best: what tells which value is better.

    Raises:
        UsageError: see `read_reference_history`.
    """

    def __init__(self, run: Path, best: BestTracker):
        self.run = run
        self._best = best
        rows = read_reference_history(run)
        self._rows: dict[int, dict[str, float]] = {}
        known: dict[str, float] = {}
        for row in rows:
            known = known | row  # it may be validated only every few epochs
            self._rows[int(row["epoch"])] = known
        self._has_warned = False

    def values(self, row: Mapping[str, float]) -> dict[str, float]:
        """Return what is added to the values of an epoch; after its end the last values of the earlier run count.

        A validation value `val_NAME` is compared, or the value `NAME` of training where this run validates nothing.
        """
        earlier = self._rows.get(int(row["epoch"]), self._rows[max(self._rows)])
        prefix = "val_" if any(name.startswith("val_") for name in row) else ""
        names = [
            name for name in row if name.startswith(prefix) and name not in BOOKKEEPING_COLUMNS and name in earlier
        ]
        values = {f"{COMPARE_PREFIX}{name.removeprefix(prefix)}": earlier[name] for name in names}
        monitor = self._best.monitor
        if monitor in row and monitor in earlier:
            difference = row[monitor] - earlier[monitor]
            values[GAIN] = difference if self._best.mode == "max" else -difference
        if not values and not self._has_warned:
            logger.warning("--trainer.compare_to %s: it has none of the values of this run", self.run)
        self._has_warned = True
        return values
