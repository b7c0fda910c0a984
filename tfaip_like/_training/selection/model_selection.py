"""Model selection: best epoch, early stopping, and the learning rate on a plateau, by the monitored metric."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._training.selection.best_tracker import BestTracker, make_best_tracker
from tfaip_like._training.selection.early_stopping import EarlyStopper
from tfaip_like._training.selection.plateau import PlateauController
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.validation.validations import Validations
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionUpdate:
    """Outcome of an epoch, which `ModelSelection.commit` makes the current state."""

    epoch: int
    value: float | None
    """Monitored value; None if it was not measured."""
    best: BestTracker
    is_improved: bool
    early_stop: EarlyStopper
    stop_reason: str | None

    @property
    def is_best(self) -> bool:
        """Return whether the epoch is the best so far; also if the run was killed between best/ and its checkpoint."""
        return self.is_improved or self.best.epoch == self.epoch


class ModelSelection:
    """State of model selection; part of each checkpoint.

    Args:
        scenario: scenario of the run.
        model: training model, for the names of losses and metrics.
        optimizer: optimizer without Keras' loss scaling.
        validations: validations of the run.

    Raises:
        UsageError: if the monitored metric cannot be logged.
    """

    def __init__(
        self, scenario: Scenario, model: TrainingModel, optimizer: keras.optimizers.Optimizer, validations: Validations
    ):
        self.scenario = scenario
        self._measured = ["loss", *model.loss_trackers, *model.metric_trackers]
        self._validations = validations
        self.best = self._make_best_tracker()
        self.early_stop = EarlyStopper(scenario.early_stopping, self.best.monitor, self.best.mode)
        self.stop_reason: str | None = None
        """Reason for early stopping; None if the training continues."""
        schedule = scenario.learning_rate
        self.plateau = (
            PlateauController(schedule, self.best.mode, optimizer) if isinstance(schedule, ReduceOnPlateau) else None
        )

    def evaluate(self, row: Mapping[str, float]) -> SelectionUpdate:
        """Return the outcome of an epoch; nothing changes until it is committed.

        Args:
            row: row of the history.

        Raises:
            UsageError: if the monitored metric is not logged.
        """
        epoch, value = int(row["epoch"]), self.best.get_value(row)
        early_stop = copy.copy(self.early_stop)
        reason = early_stop.update(epoch, value)
        is_last = epoch >= self.scenario.trainer.epochs  # nothing is stopped early after the last epoch
        best = self._updated_best(epoch, value)
        return SelectionUpdate(epoch, value, best, best is not self.best, early_stop, None if is_last else reason)

    def evaluate_again(self, update: SelectionUpdate, row: Mapping[str, float]) -> SelectionUpdate:
        """Return the outcome of the epoch after which training stops early, once all its validations have run."""
        value = self.best.get_value(row)
        best = self._updated_best(update.epoch, value)
        return dataclasses.replace(update, value=value, best=best, is_improved=best is not self.best)

    def commit(self, update: SelectionUpdate) -> None:
        """Make the outcome of an epoch the current state, and log what follows from it."""
        self.best, self.early_stop, self.stop_reason = update.best, update.early_stop, update.stop_reason
        if update.value is not None and math.isnan(update.value):
            kept = f"best/ is still epoch {self.best.epoch}" if self.best.epoch is not None else "there is no best/ yet"
            logger.warning("%s is NaN in epoch %d: %s", self.best.monitor, update.epoch, kept)
        if self.plateau is not None and update.value is not None:  # after the last epoch too: the run may be resumed
            self.plateau.update(update.value)
        if update.stop_reason:
            logger.info("stopped early: %s", update.stop_reason)

    def _updated_best(self, epoch: int, value: float | None) -> BestTracker:
        return self.best if value is None else self.best.updated(epoch, value)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        return {
            "best": {"monitor": self.best.monitor, "mode": self.best.mode, **self.best.state()},
            "early_stop": self.early_stop.state(),
            "stop": {"reason": self.stop_reason, "settings": self.scenario.early_stopping.to_dict()},
            "plateau": self.plateau.state() if self.plateau is not None else None,
        }

    def restore(
        self, saved_state: Mapping[str, Any], best_on_disk: Mapping[str, float], reset_best: bool, reset_lr: bool
    ) -> None:
        """Restore the state of a checkpoint.

        Args:
            saved_state: state that `state` returned.
            best_on_disk: metrics of best/, which may be of a later epoch than the checkpoint and must not get worse;
                empty if there is none, or if it belongs to an abandoned epoch.
            reset_best: drop the best value so far.
            reset_lr: drop the learning-rate reduction of a plateau.
        """
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
            if self.best.monitor in best_on_disk:
                self.best = self.best.updated(int(best_on_disk["epoch"]), best_on_disk[self.best.monitor])
            self.early_stop.restore(saved_state["early_stop"])
            if saved_state["stop"]["settings"] == self.scenario.early_stopping.to_dict():
                self.stop_reason = saved_state["stop"]["reason"]

    def clear_best(self) -> None:
        """Forget the best epoch, because its model is lost; the next epoch becomes the best."""
        self.best = self._make_best_tracker()

    def check_monitor(self, validated: Mapping[str, float]) -> None:
        """Check that the monitored metric is logged.

        Args:
            validated: metrics of a dry run of the validations.

        Raises:
            UsageError: if no metric of this name is logged.
        """
        self.best.get_value({**dict.fromkeys(self._measured, 0.0), **validated})

    def _make_best_tracker(self) -> BestTracker:
        validation, scenario = self._validations.validation, self.scenario
        has_validation = validation is not None
        best = make_best_tracker(scenario.early_stopping, type(scenario.model), self._measured, has_validation)
        best.check_monitor_exists(
            self._measured,
            has_validation=has_validation,
            has_evaluator=validation is not None and validation.evaluator is not None,
            lavs=list(self._validations.lavs),
            has_lav_evaluator=scenario.evaluator is not None,
        )
        return best


def read_later_best(output_dir: OutputDir | None, epochs_done: int) -> Mapping[str, float]:
    """Return the metrics of best/ if it is of a later epoch than `epochs_done`; empty otherwise."""
    metrics = Run(output_dir).best_metrics if output_dir is not None else {}
    return metrics if metrics.get("epoch", 0) > epochs_done else {}
