"""Writer of `history.csv`, the values of each evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import as_row
from tfaip_like._utils.files import atomic_write_text

Row = Mapping[str, float]


class History:
    """Values of all evaluations so far, written to disk after each of them.

    Attributes:
        rows: value by column name, at the end of each epoch and of each validation within it.
    """

    def __init__(self, folder: OutputDir | None):
        self.rows: list[dict[str, float]] = []
        self._file = folder.history if folder else None

    def write_with_row(self, row: Row) -> None:
        """Write all rows and one more, which the caller appends to `rows` afterwards."""
        if self._file is not None:
            self._write_csv(self._file, [*self.rows, row])

    def restore(self, rows: Iterable[Row]) -> None:
        """Replace the rows, in memory and on disk, by those of a checkpoint."""
        self.rows = [as_row(row) for row in rows]
        if self._file is not None and self.rows:
            self._write_csv(self._file, self.rows)
        elif self._file is not None:
            self._file.unlink(missing_ok=True)

    def _write_csv(self, path: Path, rows: Sequence[Row]) -> None:
        # Rewritten completely, because columns may appear later (validation every n epochs).
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(path, text.getvalue())
