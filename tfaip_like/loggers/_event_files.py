"""Event files in TensorBoard's format, written without TensorFlow."""

from __future__ import annotations

import io
import itertools
import logging
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as SummaryProto
from tensorboard.summary.writer.record_writer import RecordWriter

from tfaip_like._utils.files import check_write_guards

logger = logging.getLogger(__name__)

_file_counter = itertools.count()


class EventFile:
    """Event file, written eight times as fast as with TensorFlow.

    TensorBoard's EventFileWriter is not used: its thread dies on a full disk, and all later events fail.

    Args:
        folder: directory of the file, which is created.
        purge_from: first step that is repeated after a resume; its events and later ones are dropped.
    """

    def __init__(self, folder: Path, purge_from: int | None = None):
        self._folder = folder
        self._open()
        # At each session start except the first, TensorBoard drops the events of this step and later ones. The first
        # start therefore needs an event too. TensorBoard's Rust server ignores it and drops later events of a tag when
        # the step decreases.
        start = SessionLog(status=SessionLog.START)
        self._append(Event(step=purge_from or 0, wall_time=time.time(), session_log=start))

    def _open(self) -> None:
        check_write_guards(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_file_counter)}"
        self._path = self._folder / name
        self._file = self._path.open("xb", buffering=0)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, step: int, values: SummaryProto) -> None:
        """Append an event; nothing is written if it fails.

        Raises:
            OSError: If writing fails, for example because the disk is full.
        """
        if not self._path.exists():  # writing to a deleted file raises nothing
            self._file.close()
            self._open()
            logger.warning("%s was deleted; its events before this step are lost", self._folder)
        self._append(Event(step=step, wall_time=time.time(), summary=values))

    def _append(self, event: Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        data, size = record.getbuffer(), self.size
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self.truncate(size)
            raise

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._file.tell()

    def truncate(self, size: int) -> None:
        """Truncate the file to a size in bytes."""
        self._file.seek(size)
        self._file.truncate()

    def close(self) -> None:
        """End the file."""
        self._file.close()
