"""What was measured in each epoch: `history.csv` and TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tfaip_like.files import write_text
from tfaip_like.output_dir import OutputDir

Row = Mapping[str, float]


class History:
    """The values of all epochs so far, on disk after each of them.

    Attributes:
        rows: a mapping of names to numbers per epoch; `epoch` counts from 1.
    """

    def __init__(self, folder: OutputDir | None, lavs: Sequence[str] = (), rows: Iterable[Row] = ()):
        self.rows = [dict(row) for row in rows]
        self._file = folder.history if folder else None
        self._prefixes = {"val": "val_"}
        """Folder of event files -> how the names of its values begin."""
        for lav in lavs:
            prefix = f"lav_{lav}_" if lav else "lav_"
            self._prefixes[prefix.removesuffix("_")] = prefix
        self._tensorboard = {}
        if folder is not None:
            self._tensorboard = {name: _EventFile(folder.tensorboard / name) for name in ("train", *self._prefixes)}

    def add(self, row: Row) -> None:
        """Adds the values of an epoch."""
        if self._file is not None:
            self._write_csv(self._file, [*self.rows, row])
        if self._tensorboard:
            self._write_events(row)
        self.rows.append(dict(row))

    def restore(self, rows: Iterable[Row]) -> None:
        """Goes on behind these epochs."""
        self.rows = [dict(row) for row in rows]
        if self._file is not None:
            self._write_csv(self._file, self.rows)

    def close(self) -> None:
        """Ends the event files."""
        for file in self._tensorboard.values():
            file.close()

    def _write_csv(self, path: Path, rows: Sequence[Row]) -> None:
        # Rewritten as a whole, because a column may appear late (validation every n epochs).
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue())

    def _write_events(self, row: Row) -> None:
        epoch = int(row["epoch"])
        train = {name: value for name, value in row.items() if name != "epoch"}
        for folder, prefix in self._prefixes.items():
            judged = {name.removeprefix(prefix): train.pop(name) for name in list(train) if name.startswith(prefix)}
            if judged:
                self._tensorboard[folder].add(epoch, judged)
        self._tensorboard["train"].add(epoch, train)


class _EventFile:
    """Scalars for TensorBoard, through its own writer: no TensorFlow, and eight times as fast."""

    def __init__(self, folder: Path):
        self._writer = EventFileWriter(str(folder))

    def add(self, step: int, values: Row) -> None:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
