"""TensorBoard logger, with one directory of event files for training, validation and hyperparameters each.

OUTPUT_DIR/tensorboard/train     losses, metrics, learning rate, throughput, memory
OUTPUT_DIR/tensorboard/val       losses, metrics, evaluator metrics and summaries; likewise lav, lav_LIST
OUTPUT_DIR/tensorboard/hparams   hyperparameters, and metrics of the best epoch so far
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
from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.files import check_write_guards
from tfaip_like.params._base import ParamsBase
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

TRAIN, HPARAMS = "train", "hparams"


class TensorBoardLogger:
    """Writer of a run's event files, flushed after each epoch; as a context manager it records how the run ended.

    Args:
        folder: Directory `tensorboard/` of the run; None disables the logger.
        scenario: Scenario whose parameters are logged as hyperparameters.
        prefixes: Prefixes of validation metrics: `val_`, `lav_`, `lav_LIST_`.
        purge_from_epoch: First epoch that is repeated after a resume; its events and later ones are dropped.
        started: First start of the run in seconds since the epoch (1970); now by default.
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
        # TensorBoard uses the first hyperparameters that it finds, which would be those of the previous start.
        shutil.rmtree(folder / HPARAMS, ignore_errors=True)
        for name in (TRAIN, *map(_subdirectory_name, prefixes)):
            self._files[name] = _EventFile(folder / name, purge_from_epoch)
        self._files[HPARAMS] = _EventFile(folder / HPARAMS)
        self._files[HPARAMS].add(0, make_session_start(collect_hyperparameters(scenario), started or time.time()))

    def add(self, row: Mapping[str, float], summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        """Write the metrics and summaries of an epoch.

        Args:
            row: Row of `history.csv`; the prefix of a metric selects its directory.
            summaries: Summaries by the prefix of their validation and their name.

        Raises:
            OSError: If the disk is full; the call may be repeated.
        """
        if row["epoch"] == self._last_epoch:  # repeated, because a later step of the epoch's end failed
            return
        sizes = {file: file.size for file in self._files.values()}
        try:
            self._add(row, summaries)
        except OSError:  # a full disk: the whole epoch is written again later
            for file, size in sizes.items():
                file.truncate(size)
            raise
        self._last_epoch = row["epoch"]

    def _add(self, row: Mapping[str, float], summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        epoch = int(row["epoch"])
        remaining = {name: value for name, value in row.items() if name != "epoch"}
        for prefix in sorted(self._prefixes, key=len, reverse=True):  # lav_LIST_ before lav_
            names = [name for name in remaining if name.startswith(prefix)]
            numbers = {name.removeprefix(prefix): remaining.pop(name) for name in names}
            self._write(_subdirectory_name(prefix), epoch, to_summary_proto(numbers, summaries.get(prefix, {})))
        self._write(TRAIN, epoch, to_summary_proto(remaining, {}))

    def add_best(self, row: Mapping[str, float], names: Iterable[str]) -> None:
        """Write metrics of a new best epoch for the HPARAMS plugin.

        Args:
            row: Row of `history.csv`.
            names: Names of the metrics to write.
        """
        numbers = {f"best/{name}": row[name] for name in names if name in row}
        self._write(HPARAMS, int(row["epoch"]), to_summary_proto(numbers, {}))

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            # A stopped run may be resumed, and therefore has no end.
            if kind is None or not issubclass(kind, (Interrupted, KeyboardInterrupt)):
                self._write(HPARAMS, 0, make_session_end(kind is None, time.time()))
            self.close()
        except OutputDirLostError:  # the reason why the training ends
            pass
        except Exception as failure:  # a full disk must not hide why the run ended
            logger.warning("TensorBoard event files are incomplete: %s", failure)

    def close(self) -> None:
        """Close the event files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, folder: str, epoch: int, values: SummaryProto) -> None:
        if folder in self._files and values.value:
            self._files[folder].add(epoch, values)


def _subdirectory_name(prefix: str) -> str:
    return prefix.removesuffix("_")


class _EventFile:
    """Event file in TensorBoard's format, written without TensorFlow (eight times as fast).

    TensorBoard's EventFileWriter is not used: its thread dies on a full disk, and all later events fail.
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
        """Append an event.

        Raises:
            OSError: If writing fails, for example because the disk is full.
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
        """Size in bytes."""
        return self._file.tell()

    def truncate(self, size: int) -> None:
        """Truncate the file to a size in bytes."""
        self._file.seek(size)
        self._file.truncate()

    def close(self) -> None:
        """End the file."""
        self._file.close()


_file_counter = itertools.count()
