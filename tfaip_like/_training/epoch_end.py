"""The end of an epoch, step by step: validate, judge, export the best, record."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfaip_like._export.layout import read_metrics
from tfaip_like._keras_ext.extended_optimizer import averages_in_place
from tfaip_like._keras_ext.schedules import Shifted
from tfaip_like._loggers._tensorboard import TensorBoard
from tfaip_like._runs.history import History
from tfaip_like._runs.output_dir import MEASURED, OutputDir
from tfaip_like._training import state
from tfaip_like._training.exports import Exports
from tfaip_like._training.progress import Progress
from tfaip_like._training.reporter import Reporter
from tfaip_like._training.selection.comparison import GAIN, Comparison
from tfaip_like._training.selection.comparison import PREFIX as COMPARE
from tfaip_like._training.selection.early_stopping import EarlyStop
from tfaip_like._training.selection.monitor import Best, choose_best
from tfaip_like._training.selection.plateau import Plateau
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.validation.lav import Lav
from tfaip_like._training.validation.validation import Validation
from tfaip_like._utils.files import patiently
from tfaip_like._utils.memory import resident_mb
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

Summaries = dict[str, Mapping[str, Summary]]
"""What validations have to show, by their prefix and its name."""


@dataclass(frozen=True)
class Trained:
    """What the steps of an epoch gave."""

    epoch: int
    """From 1."""
    values: dict[str, float]
    """Losses and metrics, and the norm of gradients where it is measured."""
    seconds: float
    waited: float
    """Seconds of these in which the network waited for data."""


def due_after(
    epoch: int, trainer: Trainer, validate: Validation | None, lavs: Mapping[str, Lav], is_last: bool = False
) -> list[Validation | Lav]:
    """Return what judges the network after an epoch; all of it after the last, and LAV after the first too."""
    is_last = is_last or epoch == trainer.epochs
    due: list[Validation | Lav] = []
    if validate is not None and (is_last or epoch % trainer.val_every_n == 0):
        due.append(validate)
    if lavs and (is_last or epoch == 1 or epoch % trainer.lav_every_n == 0):
        due += lavs.values()
    return due


class EpochEnd:
    """Knows what to do after the steps of an epoch; its state is the history and the best epoch so far.

    Args:
        rate: the learning rate by step.
        samples_per_epoch: for the speed that is logged.
        check: called while waiting for room on the disk; raises to stop.
        progress: shows and measures what is done.
        epochs_done: of a run that goes on.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: OutputDir | None,
        exports: Exports,
        model: TrainingModel,
        optimizer: keras.optimizers.Optimizer,
        validate: Validation | None,
        lavs: Mapping[str, Lav],
        samples_per_epoch: int,
        rate: Shifted,
        check: Callable[[], None],
        progress: Progress,
        epochs_done: int = 0,
    ):
        self.scenario = scenario
        self.folder = folder
        self.exports = exports
        self.model = model
        self.optimizer = optimizer
        self.validate = validate
        self.lavs = lavs
        self.samples_per_epoch = samples_per_epoch
        self.rate = rate
        self.check = check
        self.progress = progress
        self.history = History(folder)
        self.summaries: dict[str, Mapping[str, Summary]] = {}
        """What the latest validations have to show, by their prefix and its name."""
        self.prefixes = [validation.prefix for validation in (validate, *lavs.values()) if validation is not None]
        self.best = self._monitored()
        compare_to = scenario.trainer.compare_to
        self.comparison = Comparison(compare_to, self.best) if compare_to is not None else None
        self.tensorboard = TensorBoard(
            folder.tensorboard if folder else None,
            scenario,
            [*self.prefixes, *([COMPARE] if self.comparison else [])],
            epochs_done + 1 if epochs_done else None,
            folder.started() if folder else None,
        )
        self.reporter = Reporter(folder)
        self.early_stop = EarlyStop(scenario.early_stopping, self.best.monitor, self.best.mode)
        self.stop_reason: str | None = None
        """Why the training ends after the epoch that was last, before its time."""
        schedule = scenario.learning_rate
        self.plateau = Plateau(schedule, self.best.mode, optimizer) if isinstance(schedule, ReduceOnPlateau) else None

    def __call__(self, trained: Trained) -> None:
        """Validate, judge, export and record; the state changes once all that may be interrupted or fail is done."""
        with self.progress.end_of_epoch(trained.epoch):
            self._end(trained)

    def _end(self, trained: Trained) -> None:
        early_stop = copy.copy(self.early_stop)
        with self.as_exported():
            row, summaries = self._measured(trained)
            reason = early_stop.after(trained.epoch, self.best.value_in(row))
            # After the last epoch it ends in any case.
            reason = reason if trained.epoch < self.scenario.trainer.epochs else None
            if reason:  # it is the last epoch after all
                due = self._due(trained.epoch, is_last=True)
                self._add([validation for validation in due if validation.prefix not in summaries], row, summaries)
            if self.comparison is not None:
                row |= self.comparison.values(row)
            value = self.best.value_in(row)
            best = self.best if value is None else self.best.after(trained.epoch, value)
            if best is not self.best and self.folder is not None:
                self._write(lambda: self.exports.keep_as_best(row))
            self.exports.forget()
        improved = best is not self.best
        # Also the epoch of which best/ was written before a kill, but no checkpoint.
        is_best = improved or best.epoch == trained.epoch
        self._write(lambda: self._record(row, summaries, is_best))
        self.best = best
        self.early_stop, self.stop_reason = early_stop, reason
        logger.info("%s%s", self._line(row), "  (best so far)" if improved else "")
        if value is not None and math.isnan(value):
            kept = f"best/ stays that of epoch {best.epoch}" if best.epoch is not None else "there is no best/ yet"
            logger.warning("%s is NaN in epoch %d: %s", best.monitor, trained.epoch, kept)
        if self.plateau is not None and value is not None:  # after the last epoch too: there may be more, later
            self.plateau.after(value)
        if reason:
            logger.info("stopped early: %s", reason)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep of it, as JSON values."""
        return {
            "history": list(self.history.rows),  # a copy: the next epoch may end while this is written
            "best": {"monitor": self.best.monitor, "mode": self.best.mode, **self.best.state()},
            "early_stop": self.early_stop.state(),
            "stop": {"reason": self.stop_reason, "settings": self.scenario.early_stopping.to_dict()},
            "plateau": self.plateau.state() if self.plateau is not None else None,
        }

    def restore(
        self,
        kept: Mapping[str, Any],
        is_judged_anew: bool = False,
        is_rate_fresh: bool = False,
        has_abandoned_epochs: bool = False,
    ) -> None:
        """Continue from the state in a checkpoint.

        Args:
            kept: what `state` returned.
            is_judged_anew: forget the best value so far.
            is_rate_fresh: forget the lowered learning rate of a plateau.
            has_abandoned_epochs: the model in best/ may be of an epoch that is trained again.
        """
        self.history.restore(kept["history"])
        is_other = (kept["best"]["monitor"], kept["best"]["mode"]) != (self.best.monitor, self.best.mode)
        if self.plateau is not None and (kept["plateau"] is None or is_rate_fresh):
            self.plateau.begin()
        elif self.plateau is not None:
            self.plateau.restore(kept["plateau"], is_other)
        if is_other:
            logger.warning("what is best is now judged by %s, in the epochs from here on", self.best.monitor)
        elif not is_judged_anew:
            self.best = dataclasses.replace(self.best, value=kept["best"]["value"], epoch=kept["best"]["epoch"])
            if not has_abandoned_epochs:
                self.best = self._best_on_disk(epochs_done=len(kept["history"]))
            self.early_stop.restore(kept["early_stop"])
            for row in self.history.rows:
                if row["epoch"] == self.best.epoch:  # the page of hyper-parameters begins anew
                    self.tensorboard.add_best(row, self._names_of_interest())
            if kept["stop"]["settings"] == self.scenario.early_stopping.to_dict():
                self.stop_reason = kept["stop"]["reason"]

    def _best_on_disk(self, epochs_done: int) -> Best:
        """Return the best epoch so far, also of those after the checkpoint: a worse model never replaces best/."""
        later = read_metrics(self.folder.best) if self.folder is not None else {}
        if self.best.monitor in later and later.get("epoch", 0) > epochs_done:
            return self.best.after(int(later["epoch"]), later[self.best.monitor])
        return self.best

    def forget_best(self) -> None:
        """Take the next epoch for the best one: there is no model of the best one so far."""
        self.best = self._monitored()

    def export_best(self, epoch: int) -> None:
        """Write the network, which must have the weights of that epoch, into best/."""
        row = next(row for row in self.history.rows if row["epoch"] == epoch)
        with self.as_exported():
            self._write(lambda: self.exports.keep_as_best(row))

    @contextmanager
    def as_exported(self) -> Iterator[None]:
        """Give the network the weights that are validated and exported, and afterwards its own whole state again."""
        with state.preserved(self.model), averages_in_place(self.optimizer):
            yield

    def export(self) -> None:
        """Writes the last model."""
        if self.folder is not None:
            with self.as_exported():
                row = self.history.rows[-1]
                self._write(lambda: self.exports.write_last(row, is_best=self.best.epoch == row["epoch"]))

    def _monitored(self) -> Best:
        """What tells the best epoch, with nothing seen yet."""
        measured = self._trained()
        has_validation = self.validate is not None
        best = choose_best(
            self.scenario.early_stopping, type(self.scenario.model), measured, has_validation=has_validation
        )
        best.check_is_logged(
            measured,
            has_validation=has_validation,
            has_evaluator=self.validate is not None and self.validate.evaluator is not None,
            lavs=list(self.lavs),
            has_lav_evaluator=self.scenario.evaluator is not None,
        )
        return best

    def check_monitor(self, validated: Mapping[str, float]) -> None:
        """Check that the monitored number is among those of a training and a trial of its validations.

        Args:
            validated: the numbers of the trial.

        Raises:
            UsageError: when nothing of this name is ever logged.
        """
        self.best.value_in({**dict.fromkeys(self._trained(), 0.0), **validated})

    def _trained(self) -> list[str]:
        """Return the names of the losses and metrics of training."""
        return ["loss", *self.model.loss_trackers, *self.model.metric_trackers]

    def _measured(self, trained: Trained) -> tuple[dict[str, float], Summaries]:
        """All numbers of the epoch, and what there is to look at."""
        row: dict[str, float] = {"epoch": trained.epoch, **trained.values}
        summaries: Summaries = {}
        self._add(self._due(trained.epoch), row, summaries)
        row["lr"] = self._rate_of_the_last_step()
        row["seconds"] = round(trained.seconds, 3)
        row["samples_per_second"] = round(self.samples_per_epoch / trained.seconds, 1)
        row["input_bound"] = round(min(1.0, trained.waited / trained.seconds), 4)
        row["memory_mb"] = resident_mb()
        return row, summaries

    def _add(self, validations: Iterable[Validation | Lav], row: dict[str, float], summaries: Summaries) -> None:
        for validation in validations:
            with self.progress.validation(validation.prefix):
                judged = validation()
            row |= judged.numbers
            summaries[validation.prefix] = judged.summaries

    def _record(self, row: Mapping[str, float], summaries: Summaries, is_best: bool) -> None:
        self.history.write_with(row)
        self.reporter.after_epoch(summaries)
        self.tensorboard.add(row, summaries)
        if is_best:
            self.tensorboard.add_best(row, self._names_of_interest())
        self.history.rows.append(dict(row))
        self.summaries |= summaries

    def _names_of_interest(self) -> list[str]:
        """The monitored value and all losses."""
        several = self.model.loss_trackers if len(self.model.loss_trackers) > 1 else ()  # or it is the sum
        losses = [f"{prefix}{name}" for prefix in ("", *self.prefixes) for name in ("loss", *several)]
        return list(dict.fromkeys([self.best.monitor, *losses]))

    def _write(self, write: Callable[[], None]) -> None:
        patiently(self.folder.path if self.folder is not None else Path(), write, self.check)

    def _rate_of_the_last_step(self) -> float:
        rate = float(keras.ops.convert_to_numpy(self.rate(int(self.optimizer.iterations) - 1)))
        if self.plateau is not None:
            rate *= float(self.optimizer.rate_factor)
        return float(f"{rate:.7g}")  # what float32 knows of it

    def _due(self, epoch: int, is_last: bool = False) -> list[Validation | Lav]:
        """What judges the network after an epoch; all of it after the last, and LAV after the first too."""
        return due_after(epoch, self.scenario.trainer, self.validate, self.lavs, is_last)

    def _line(self, row: Mapping[str, float]) -> str:
        def numbers(names: list[str]) -> str:
            return ", ".join(f"{name} {row[name]:.4g}" for name in names)

        val = [name for name in row if name.startswith("val_")]
        lav = [name for name in row if name.startswith("lav_")]
        compared = [name for name in row if name.startswith(COMPARE)]
        train = [name for name in row if name not in (*val, *lav, *compared, *MEASURED)]
        if len(self.model.loss_trackers) == 1:  # the only loss is the sum as well
            alone = next(iter(self.model.loss_trackers))
            train = [name for name in train if name != alone or row[name] != row["loss"]]
            val = [name for name in val if name != f"val_{alone}" or row[name] != row["val_loss"]]
        speed = f"{row['samples_per_second']:.0f} samples/s, input-bound {100 * row['input_bound']:.0f} %"
        gain = numbers([GAIN]) if GAIN in row else ""
        parts = [numbers(train), numbers(val), numbers(lav), gain, f"lr {row['lr']:.3g}, {speed}"]
        return f"epoch {row['epoch']}/{self.scenario.trainer.epochs}: " + " | ".join(part for part in parts if part)
