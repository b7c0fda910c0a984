"""What TensorBoard shows of a run: a folder of event files each for training, validation and parameters.

OUTPUT_DIR/tensorboard/train     losses, metrics, learning rate, throughput, memory
OUTPUT_DIR/tensorboard/val       losses, metrics, the evaluator's numbers and summaries; so lav, lav_LIST
OUTPUT_DIR/tensorboard/hparams   the parameters, and the values of the best epoch so far
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as SummaryProto
from tensorboard.summary.writer.record_writer import RecordWriter

from tfaip_like._loggers._hyperparameters import collect_hyperparameters, make_session_end, make_session_start
from tfaip_like._loggers._summary_protos import to_summary_proto
from tfaip_like._runs.output_dir import OutputDirLostError
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.files import check_write_guards
from tfaip_like.params._base import ParamsBase
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

TRAIN, HPARAMS = "train", "hparams"


class TensorBoardLogger:
    """The event files of a run, on disk after each epoch; as a context it notes how the run ended.

    Args:
        folder: `tensorboard/` of the run; None writes nothing.
        scenario: its parameters are shown.
        prefixes: with which the names of validation's values begin: `val_`, `lav_`, `lav_LIST_`.
        purge_from_epoch: the first epoch that will be done again, after a resume: what was written of it
            and of later ones is dropped.
        started: when the run was started for the first time, in seconds since 1970; now by default.
    """

    def __init__(
        self,
        folder: Path | None,
        scenario: ParamsBase,
        prefixes: Sequence[str] = ("val_",),
        purge_from_epoch: int | None = None,
        started: float | None = None,
    ):
        self._files: dict[str, _EventFile] = {}
        self._prefixes = prefixes
        self._last_epoch = 0.0
        if folder is None:
            return
        # Of each tag TensorBoard reads the first parameters that it finds: those of before would stay.
        shutil.rmtree(folder / HPARAMS, ignore_errors=True)
        for name in (TRAIN, *map(_subdirectory_name, prefixes)):
            self._files[name] = _EventFile(folder / name, purge_from_epoch)
        self._files[HPARAMS] = _EventFile(folder / HPARAMS)
        self._files[HPARAMS].add(0, make_session_start(collect_hyperparameters(scenario), started or time.time()))

    def add(self, row: Mapping[str, float], summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        """Writes the values of an epoch.

        Args:
            row: as in `history.csv`; a value goes to the folder that its prefix says.
            summaries: by the prefix of their validation and their name.

        Raises:
            OSError: when the disk is full; it may be called again.
        """
        if row["epoch"] == self._last_epoch:  # what came after it failed, and all is written again
            return
        sizes = {file: file.size for file in self._files.values()}
        try:
            self._add(row, summaries)
        except OSError:  # a full disk: all of the epoch is written when there is room
            for file, size in sizes.items():
                file.truncate(size)
            raise
        self._last_epoch = row["epoch"]

    def _add(self, row: Mapping[str, float], summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        epoch = int(row["epoch"])
        left = {name: value for name, value in row.items() if name != "epoch"}
        for prefix in sorted(self._prefixes, key=len, reverse=True):  # lav_LIST_ before lav_
            numbers = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
            self._write(_subdirectory_name(prefix), epoch, to_summary_proto(numbers, summaries.get(prefix, {})))
        self._write(TRAIN, epoch, to_summary_proto(left, {}))

    def add_best(self, row: Mapping[str, float], names: Iterable[str]) -> None:
        """Writes values of an epoch that is better than all before, for the page HPARAMS."""
        numbers = {f"best/{name}": row[name] for name in names if name in row}
        self._write(HPARAMS, int(row["epoch"]), to_summary_proto(numbers, {}))

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            # One that was stopped will perhaps go on: it has no end.
            if kind is None or not issubclass(kind, (Interrupted, KeyboardInterrupt)):
                self._write(HPARAMS, 0, make_session_end(kind is None, time.time()))
            self.close()
        except OutputDirLostError:  # which is why the training ends
            pass
        except Exception as failure:  # a full disk must not hide why the run ended
            logger.warning("the event files for TensorBoard are not complete: %s", failure)

    def close(self) -> None:
        """Ends the files and the threads that write them."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, folder: str, epoch: int, values: SummaryProto) -> None:
        if folder in self._files and values.value:
            self._files[folder].add(epoch, values)


def _subdirectory_name(prefix: str) -> str:
    return prefix.removesuffix("_")


class _EventFile:
    """Events for TensorBoard in its file format: no TensorFlow, and eight times as fast.

    Not with tensorboard's own EventFileWriter: its thread dies on a full disk, and every later event fails.
    """

    def __init__(self, folder: Path, purge_from: int | None = None):
        self._folder = folder
        self._open()
        # TensorBoard drops what was written of this step and later ones at each start but the first, so that
        # needs one as well. Its server in Rust does not look at it: there an event of an earlier step than
        # the one before drops the later ones of its tag.
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
        """Append an event.

        Raises:
            OSError: when the disk is full, say.
        """
        if not self._path.exists():  # writing to a deleted file raises nothing
            self._file.close()
            self._open()
            logger.warning("%s was deleted; its events before this epoch are lost", self._folder)
        self._append(Event(step=step, wall_time=time.time(), summary=values))

    def _append(self, event: Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        data = record.getbuffer()
        while data:
            data = data[self._file.write(data) :]

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def truncate(self, size: int) -> None:
        """Drop what comes after so many bytes."""
        self._file.seek(size)
        self._file.truncate()

    def close(self) -> None:
        """End the file."""
        self._file.close()


_file_counter = itertools.count()
