"""TensorBoard logger, with one directory of event files for training, validation and hyperparameters each.

OUTPUT_DIR/tensorboard/train     losses, metrics, learning rate, throughput, memory
OUTPUT_DIR/tensorboard/val       losses, metrics, evaluator metrics and summaries; likewise lav, lav_LIST
OUTPUT_DIR/tensorboard/hparams   hyperparameters, and metrics of the best epoch so far
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tfaip_like.loggers._logger import LoggedRun, Logger, Metrics, ParamValue, Status
from tfaip_like.summaries import Summary

if TYPE_CHECKING:
    from tfaip_like.loggers._event_files import EventFile

TRAIN, HPARAMS = "train", "hparams"


class TensorBoard(Logger):
    """TensorBoard event files; those in the run directory are always written.

    Example:
        >>> TensorBoard(log_dir="/shared/tensorboard")
        TensorBoard(log_dir='/shared/tensorboard')
    """

    log_dir: Path | None = None
    """Directory of several runs, in which this run has a subdirectory with its name. By default tensorboard/ of the run
    directory."""

    def start(self, run: LoggedRun) -> None:
        from tfaip_like.loggers._event_files import EventFile

        self._prefixes = sorted(run.prefixes, key=len, reverse=True)  # lav_LIST_ before lav_
        self._start_time = run.start_time
        self._files: dict[str, EventFile] = {}
        folder = self._folder(run)
        if folder is None:
            return
        # TensorBoard uses the first hyperparameters that it finds, which would be those of the previous start.
        shutil.rmtree(folder / HPARAMS, ignore_errors=True)
        purge_from = run.logged_steps + 1 if run.logged_steps else None
        for name in (TRAIN, *map(_subdirectory_name, run.prefixes)):
            self._files[name] = EventFile(folder / name, purge_from)
        self._files[HPARAMS] = EventFile(folder / HPARAMS)

    def _folder(self, run: LoggedRun) -> Path | None:
        if self.log_dir is not None:
            return self.log_dir / run.name
        return run.output_dir / "tensorboard" if run.output_dir is not None else None

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        from tfaip_like.loggers._hyperparameters import make_session_start

        if HPARAMS in self._files:
            self._files[HPARAMS].add(0, make_session_start(params, self._start_time or time.time()))

    def log_metrics(self, metrics: Metrics, step: int, epoch: float) -> None:
        remaining = dict(metrics)
        with self._all_or_nothing():
            for prefix in self._prefixes:
                names = [name for name in remaining if name.startswith(prefix)]
                numbers = {name.removeprefix(prefix): remaining.pop(name) for name in names}
                self._write(_subdirectory_name(prefix), step, numbers)
            self._write(TRAIN, step, remaining)

    def log_best(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._write(HPARAMS, step, {f"best/{name}": value for name, value in metrics.items()})

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        prefix = next((prefix for prefix in self._prefixes if name.startswith(prefix)), "")
        self._write(_subdirectory_name(prefix) or TRAIN, step, {}, {name.removeprefix(prefix): summary})

    def finish(self, status: Status) -> None:
        from tfaip_like.loggers._hyperparameters import make_session_end

        try:
            if status != "stopped" and HPARAMS in self._files:  # a stopped run may be resumed, and has no end
                self._files[HPARAMS].add(0, make_session_end(status == "done", time.time()))
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Remove what the block has written if it fails, because it will be called again."""
        sizes = {file: file.size for file in self._files.values()}
        try:
            yield
        except OSError:  # a full disk
            for file, size in sizes.items():
                file.truncate(size)
            raise

    def _write(self, folder: str, step: int, numbers: Metrics, summaries: Mapping[str, Summary] | None = None) -> None:
        from tfaip_like.loggers._summary_protos import to_summary_proto

        if folder in self._files and (numbers or summaries):
            self._files[folder].add(step, to_summary_proto(numbers, summaries or {}))


def _subdirectory_name(prefix: str) -> str:
    return prefix.removesuffix("_")
