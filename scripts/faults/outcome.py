"""Results of a finished run that must not depend on interruptions."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.output_dir import NONDETERMINISTIC_COLUMNS


@dataclass(frozen=True)
class Outcome:
    """Bytes of all variables, rows of the history without times, and numbers of the best epoch."""

    arrays: Mapping[str, bytes]
    history: list[dict[str, str]]
    best: Mapping[str, float]

    @classmethod
    def read(cls, run: Path) -> Outcome:
        """Return the outcome of a finished run."""
        last = sorted((run / "checkpoints").glob("epoch_*"))[-1]
        arrays: dict[str, bytes] = {}
        for file in (last / "variables.npz", run / "best" / "weights.npz", run / "export" / "weights.npz"):
            with zipfile.ZipFile(file) as saved:
                arrays |= {f"{file.parent.name}/{name}": saved.read(name) for name in saved.namelist()}
        with (run / "history.csv").open() as table:
            rows = [
                {name: value for name, value in row.items() if name not in NONDETERMINISTIC_COLUMNS}
                for row in csv.DictReader(table)
            ]
        metrics = json.loads((run / "best" / "metrics.json").read_text())
        return cls(
            arrays, rows, {name: value for name, value in metrics.items() if name not in NONDETERMINISTIC_COLUMNS}
        )

    def differences(self, other: Outcome) -> list[str]:
        """Return the names of the values that differ."""
        names = {**self.arrays, **other.arrays}
        found = [name for name in names if self.arrays.get(name) != other.arrays.get(name)]
        found += ["history.csv"] if self.history != other.history else []
        return found + (["best/metrics.json"] if self.best != other.best else [])
