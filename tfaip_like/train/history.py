"""What was measured in each epoch: `history.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from tfaip_like.files import write_text
from tfaip_like.output_dir import OutputDir

Row = Mapping[str, float]


class History:
    """The values of all epochs so far, on disk after each of them.

    Attributes:
        rows: a mapping of names to numbers per epoch; `epoch` counts from 1.
    """

    def __init__(self, folder: OutputDir | None, rows: Iterable[Row] = ()):
        self.rows = [dict(row) for row in rows]
        self._file = folder.history if folder else None

    def add(self, row: Row) -> None:
        """Adds the values of an epoch."""
        self.rows.append(dict(row))
        if self._file is None:
            return
        # Rewritten as a whole, because a column may appear late (validation every n epochs).
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._file, text.getvalue())
