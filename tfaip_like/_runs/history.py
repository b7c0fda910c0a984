"""What was measured in each epoch: `history.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.files import atomic_write_text

Row = Mapping[str, float]


class History:
    """The values of all epochs so far, on disk after each of them.

    Attributes:
        rows: a mapping of names to numbers per epoch; `epoch` counts from 1.
    """

    def __init__(self, folder: OutputDir | None):
        self.rows: list[dict[str, float]] = []
        self._file = folder.history if folder else None

    def write_with_row(self, row: Row) -> None:
        """Writes all epochs so far and one more, which belongs to them once its caller has appended it."""
        if self._file is not None:
            self._write_csv(self._file, [*self.rows, row])

    def restore(self, rows: Iterable[Row]) -> None:
        """Goes on behind these epochs."""
        # The number of an epoch is written as it was, 1 and not 1.0: a resumed run leaves the same file.
        self.rows = [{**row, "epoch": int(row["epoch"])} for row in rows]
        if self._file is not None and self.rows:
            self._write_csv(self._file, self.rows)
        elif self._file is not None:
            self._file.unlink(missing_ok=True)

    def _write_csv(self, path: Path, rows: Sequence[Row]) -> None:
        # Rewritten as a whole, because a column may appear late (validation every n epochs).
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(path, text.getvalue())
