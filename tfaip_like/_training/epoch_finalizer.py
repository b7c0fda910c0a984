"""End of an epoch: validation, best epoch, early stopping, export, logging."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfaip_like._export.layout import read_metrics
from tfaip_like._keras_ext.extended_optimizer import use_averaged_weights
from tfaip_like._keras_ext.schedules import OffsetSchedule
from tfaip_like._loggers._tensorboard import TensorBoardLogger
from tfaip_like._runs.history import History
from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, OutputDir
from tfaip_like._training import state
from tfaip_like._training.exports import ExportWriter
from tfaip_like._training.progress import Progress
from tfaip_like._training.reporter import Reporter
from tfaip_like._training.selection.best_tracker import BestTracker, make_best_tracker
from tfaip_like._training.selection.comparison import COMPARE_PREFIX as COMPARE
from tfaip_like._training.selection.comparison import GAIN, RunComparison
from tfaip_like._training.selection.early_stopping import EarlyStopper
from tfaip_like._training.selection.plateau import PlateauController
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like._utils.files import retry_while_disk_full
from tfaip_like._utils.processes import resident_memory_mb
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

Summaries = dict[str, Mapping[str, Summary]]
"""Summaries of validations, by prefix and name."""


@dataclass(frozen=True)
class EpochResult:
    """Training metrics of an epoch."""

    epoch: int
    """Epoch, from 1."""
    values: dict[str, float]
    """Losses, metrics, and the gradient norm if it is measured."""
    seconds: float
    """Duration of the steps."""
    waited: float
    """Seconds spent waiting for data."""


def scheduled_validations(
    epoch: int,
    trainer: Trainer,
    validation: Validation | None,
    lavs: Mapping[str, LavValidation],
    is_last: bool = False,
) -> list[Validation | LavValidation]:
    """Return the validations due after an epoch: all of them after the last epoch, LAV also after the first.

    Args:
        epoch: epoch, from 1.
        trainer: intervals and number of epochs.
        validation: validation of the network; None without validation data.
        lavs: load-and-validate by source.
        is_last: whether training stops early after this epoch.
    """
    is_last = is_last or epoch == trainer.epochs
    due: list[Validation | LavValidation] = []
    if validation is not None and (is_last or epoch % trainer.val_every_n == 0):
        due.append(validation)
    if lavs and (is_last or epoch == 1 or epoch % trainer.lav_every_n == 0):
        due += lavs.values()
    return due


class EpochFinalizer:
    """Runs validation, export and logging after each epoch; holds the history and the best epoch.

    Args:
        scenario: scenario of the run.
        output_dir: run directory; None saves nothing.
        exports: writer of exports.
        model: training model.
        optimizer: optimizer without Keras' loss scaling.
        validation: validation of the network; None without validation data.
        lavs: load-and-validate by source.
        samples_per_epoch: for the logged throughput.
        lr_schedule: learning rate by step.
        check: called while waiting for disk space; raises to stop.
        progress: progress display, which also measures durations.
        epochs_done: completed epochs of a resumed run.
    """

    def __init__(
        self,
        scenario: Scenario,
        output_dir: OutputDir | None,
        exports: ExportWriter,
        model: TrainingModel,
        optimizer: keras.optimizers.Optimizer,
        validation: Validation | None,
        lavs: Mapping[str, LavValidation],
        samples_per_epoch: int,
        lr_schedule: OffsetSchedule,
        check: Callable[[], None],
        progress: Progress,
        epochs_done: int = 0,
    ):
        self.scenario = scenario
        self.output_dir = output_dir
        self.exports = exports
        self.model = model
        self.optimizer = optimizer
        self.validation = validation
        self.lavs = lavs
        self.samples_per_epoch = samples_per_epoch
        self.lr_schedule = lr_schedule
        self.check = check
        self.progress = progress
        self.history = History(output_dir)
        self.summaries: dict[str, Mapping[str, Summary]] = {}
        """Summaries of the latest validations, by prefix and name."""
        self.prefixes = [validation.prefix for validation in (validation, *lavs.values()) if validation is not None]
        self.best = self._make_best_tracker()
        compare_to = scenario.trainer.compare_to
        self.comparison = RunComparison(compare_to, self.best) if compare_to is not None else None
        self.tensorboard = TensorBoardLogger(
            output_dir.tensorboard if output_dir else None,
            scenario,
            [*self.prefixes, *([COMPARE] if self.comparison else [])],
            epochs_done + 1 if epochs_done else None,
            output_dir.read_start_time() if output_dir else None,
        )
        self.reporter = Reporter(output_dir)
        self.early_stop = EarlyStopper(scenario.early_stopping, self.best.monitor, self.best.mode)
        self.epoch_ends: list[float] = []
        """Unix time at the end of each epoch that this process has trained."""
        self.stop_reason: str | None = None
        """Reason for early stopping; None if the training continues."""
        schedule = scenario.learning_rate
        self.plateau = (
            PlateauController(schedule, self.best.mode, optimizer) if isinstance(schedule, ReduceOnPlateau) else None
        )

    def run(self, result: EpochResult) -> None:
        """Validate, export and record an epoch; the state changes only after everything that may fail."""
        with self.progress.measure_epoch_end(result.epoch):
            self._finalize(result)

    def _finalize(self, result: EpochResult) -> None:
        early_stop = copy.copy(self.early_stop)
        with self.use_exported_weights():
            row, summaries = self._collect_epoch_metrics(result)
            reason = early_stop.update(result.epoch, self.best.get_value(row))
            # After the last epoch nothing is stopped early.
            reason = reason if result.epoch < self.scenario.trainer.epochs else None
            if reason:  # now that this is the last epoch, all validations run
                due = self._scheduled_validations(result.epoch, is_last=True)
                self._run_validations(
                    [validation for validation in due if validation.prefix not in summaries], row, summaries
                )
            if self.comparison is not None:
                row |= self.comparison.values(row)
            value = self.best.get_value(row)
            best = self.best if value is None else self.best.updated(result.epoch, value)
            if best is not self.best and self.output_dir is not None:
                self._write_with_retry(lambda: self.exports.save_best(row))
            self.exports.discard_current()
        improved = best is not self.best
        # Also an epoch whose best/ was written before the process was killed, but whose checkpoint was not.
        is_best = improved or best.epoch == result.epoch
        self._write_with_retry(lambda: self._record_epoch(row, summaries, is_best))
        self.best = best
        self.early_stop, self.stop_reason = early_stop, reason
        self.epoch_ends.append(round(time.time(), 3))
        logger.info("%s%s", self._format_log_line(row), "  (best so far)" if improved else "")
        if value is not None and math.isnan(value):
            kept = f"best/ is still epoch {best.epoch}" if best.epoch is not None else "there is no best/ yet"
            logger.warning("%s is NaN in epoch %d: %s", best.monitor, result.epoch, kept)
        if self.plateau is not None and value is not None:  # after the last epoch too: the run may be resumed
            self.plateau.update(value)
        if reason:
            logger.info("stopped early: %s", reason)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        return {
            "history": list(self.history.rows),  # a copy: the next epoch may end while a thread writes this
            "best": {"monitor": self.best.monitor, "mode": self.best.mode, **self.best.state()},
            "early_stop": self.early_stop.state(),
            "stop": {"reason": self.stop_reason, "settings": self.scenario.early_stopping.to_dict()},
            "plateau": self.plateau.state() if self.plateau is not None else None,
        }

    def restore(
        self,
        saved_state: Mapping[str, Any],
        reset_best: bool = False,
        reset_lr: bool = False,
        has_abandoned_epochs: bool = False,
    ) -> None:
        """Restore the state of a checkpoint.

        Args:
            saved_state: state that `state` returned.
            reset_best: drop the best value so far.
            reset_lr: drop the learning-rate reduction of a plateau.
            has_abandoned_epochs: whether best/ may belong to an epoch that is trained again.
        """
        self.history.restore(saved_state["history"])
        saved_best = saved_state["best"]
        has_new_monitor = (saved_best["monitor"], saved_best["mode"]) != (self.best.monitor, self.best.mode)
        if self.plateau is not None and (saved_state["plateau"] is None or reset_lr):
            self.plateau.reset()
        elif self.plateau is not None:
            self.plateau.restore(saved_state["plateau"], has_new_monitor)
        if has_new_monitor:
            logger.warning("monitor changed to %s; the best epoch is reset", self.best.monitor)
        elif not reset_best:
            self.best = dataclasses.replace(self.best, value=saved_best["value"], epoch=saved_best["epoch"])
            if not has_abandoned_epochs:
                self.best = self._best_on_disk(epochs_done=len(saved_state["history"]))
            self.early_stop.restore(saved_state["early_stop"])
            for row in self.history.rows:
                if row["epoch"] == self.best.epoch:  # the HPARAMS entry is written again on resume
                    self.tensorboard.add_best(row, self._hparam_metric_names())
            if saved_state["stop"]["settings"] == self.scenario.early_stopping.to_dict():
                self.stop_reason = saved_state["stop"]["reason"]

    def _best_on_disk(self, epochs_done: int) -> BestTracker:
        """Return the best epoch including best/, which may be later than the checkpoint and must not get worse."""
        later = read_metrics(self.output_dir.best) if self.output_dir is not None else {}
        if self.best.monitor in later and later.get("epoch", 0) > epochs_done:
            return self.best.updated(int(later["epoch"]), later[self.best.monitor])
        return self.best

    def clear_best(self) -> None:
        """Forget the best epoch, because its model is lost; the next epoch becomes the best."""
        self.best = self._make_best_tracker()

    def export_best(self, epoch: int) -> None:
        """Write best/ from the network, which must have the weights of this epoch."""
        row = next(row for row in self.history.rows if row["epoch"] == epoch)
        with self.use_exported_weights():
            self._write_with_retry(lambda: self.exports.save_best(row))

    @contextmanager
    def use_exported_weights(self) -> Iterator[None]:
        """Use the weights that are validated and exported (averaged ones, if any) within the block."""
        with state.preserve_state(self.model), use_averaged_weights(self.optimizer):
            yield

    def export_last(self) -> None:
        """Write export/, the model of the last epoch."""
        if self.output_dir is not None:
            with self.use_exported_weights():
                row = self.history.rows[-1]
                self._write_with_retry(lambda: self.exports.save_last(row, is_best=self.best.epoch == row["epoch"]))

    def _make_best_tracker(self) -> BestTracker:
        measured = self._training_metric_names()
        has_validation = self.validation is not None
        best = make_best_tracker(
            self.scenario.early_stopping, type(self.scenario.model), measured, has_validation=has_validation
        )
        best.check_monitor_exists(
            measured,
            has_validation=has_validation,
            has_evaluator=self.validation is not None and self.validation.evaluator is not None,
            lavs=list(self.lavs),
            has_lav_evaluator=self.scenario.evaluator is not None,
        )
        return best

    def check_monitor(self, validated: Mapping[str, float]) -> None:
        """Check that the monitored metric is logged.

        Args:
            validated: metrics of a dry run of the validations.

        Raises:
            UsageError: if no metric of this name is logged.
        """
        self.best.get_value({**dict.fromkeys(self._training_metric_names(), 0.0), **validated})

    def _training_metric_names(self) -> list[str]:
        return ["loss", *self.model.loss_trackers, *self.model.metric_trackers]

    def _collect_epoch_metrics(self, result: EpochResult) -> tuple[dict[str, float], Summaries]:
        """Run the validations that are due; return the history row and the summaries of the epoch."""
        row: dict[str, float] = {"epoch": result.epoch, **result.values}
        summaries: Summaries = {}
        self._run_validations(self._scheduled_validations(result.epoch), row, summaries)
        row["lr"] = self._last_learning_rate()
        row["seconds"] = round(result.seconds, 3)
        row["samples_per_second"] = round(self.samples_per_epoch / result.seconds, 1)
        row["input_bound"] = round(min(1.0, result.waited / result.seconds), 4)
        row["memory_mb"] = resident_memory_mb()
        return row, summaries

    def _run_validations(
        self, validations: Iterable[Validation | LavValidation], row: dict[str, float], summaries: Summaries
    ) -> None:
        for validation in validations:
            with self.progress.measure_validation(validation.prefix):
                evaluation = validation()
            row |= evaluation.numbers
            summaries[validation.prefix] = evaluation.summaries

    def _record_epoch(self, row: Mapping[str, float], summaries: Summaries, is_best: bool) -> None:
        self.history.write_with_row(row)
        self.reporter.on_epoch_end(summaries)
        self.tensorboard.add(row, summaries)
        if is_best:
            self.tensorboard.add_best(row, self._hparam_metric_names())
        self.history.rows.append(dict(row))
        self.summaries |= summaries

    def _hparam_metric_names(self) -> list[str]:
        """Return the names of the monitored metric and of all losses."""
        terms = self.model.loss_trackers if len(self.model.loss_trackers) > 1 else ()  # a single one equals the loss
        losses = [f"{prefix}{name}" for prefix in ("", *self.prefixes) for name in ("loss", *terms)]
        return list(dict.fromkeys([self.best.monitor, *losses]))

    def _write_with_retry(self, write: Callable[[], None]) -> None:
        retry_while_disk_full(self.output_dir.path if self.output_dir is not None else Path(), write, self.check)

    def _last_learning_rate(self) -> float:
        rate = float(keras.ops.convert_to_numpy(self.lr_schedule(int(self.optimizer.iterations) - 1)))
        if self.plateau is not None:
            rate *= float(self.optimizer.rate_factor)
        return float(f"{rate:.7g}")  # the precision of float32

    def _scheduled_validations(self, epoch: int, is_last: bool = False) -> list[Validation | LavValidation]:
        return scheduled_validations(epoch, self.scenario.trainer, self.validation, self.lavs, is_last)

    def _format_log_line(self, row: Mapping[str, float]) -> str:
        def numbers(names: list[str]) -> str:
            return ", ".join(f"{name} {row[name]:.4g}" for name in names)

        val = [name for name in row if name.startswith("val_")]
        lav = [name for name in row if name.startswith("lav_")]
        compared = [name for name in row if name.startswith(COMPARE)]
        train = [name for name in row if name not in (*val, *lav, *compared, *BOOKKEEPING_COLUMNS)]
        if len(self.model.loss_trackers) == 1:  # a single loss equals the total
            single = next(iter(self.model.loss_trackers))
            train = [name for name in train if name != single or row[name] != row["loss"]]
            val = [name for name in val if name != f"val_{single}" or row[name] != row["val_loss"]]
        speed = f"{row['samples_per_second']:.0f} samples/s, input-bound {100 * row['input_bound']:.0f} %"
        gain = numbers([GAIN]) if GAIN in row else ""
        parts = [numbers(train), numbers(val), numbers(lav), gain, f"lr {row['lr']:.3g}, {speed}"]
        return f"epoch {row['epoch']}/{self.scenario.trainer.epochs}: " + " | ".join(part for part in parts if part)
