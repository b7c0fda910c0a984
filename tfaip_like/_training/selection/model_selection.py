"""Model selection: best epoch, early stopping, and the learning rate on a plateau, by the monitored metric."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import keras

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import as_row_epoch, format_row_place
from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like._training.checkpointing.state_schema import SelectionState
from tfaip_like._training.selection.best_checkpoints import BestCheckpoints, RankedCheckpoint
from tfaip_like._training.selection.best_tracker import BestTracker, make_best_tracker
from tfaip_like._training.selection.early_stopping import EarlyStopper
from tfaip_like._training.selection.plateau import PlateauController
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.validations import Validations
from tfaip_like._utils.console import OnceLogger
from tfaip_like._utils.errors import UsageError
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau
from tfaip_like.settings._interval import Elapsed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionUpdate:
    """Outcome of an evaluation, which `ModelSelection.commit` makes the current state."""

    elapsed: Elapsed
    position: Position
    """Position of a checkpoint after the evaluation."""
    value: float | None
    """Monitored value; None if it was not measured."""
    best: BestTracker
    is_improved: bool
    early_stop: EarlyStopper
    stop_reason: str | None

    @property
    def is_best(self) -> bool:
        """Return whether it is the best so far; also if the run was killed between best/ and its checkpoint."""
        return self.is_improved or self.best.epoch == self.elapsed.epochs


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
        self._measured = ["loss", *model.loss_trackers, *model.metric_names]
        self._validations = validations
        self.best = self._make_best_tracker()
        self.early_stop = EarlyStopper(scenario.early_stopping, self.best.monitor, self.best.mode)
        self.best_checkpoints = BestCheckpoints(scenario.trainer.keep_best, self.best.mode)
        """Checkpoints to keep for `--trainer.keep_best`."""
        self._once_logger = OnceLogger(logger)
        self.stop_reason: str | None = None
        """Reason for early stopping; None if the training continues."""
        schedule = scenario.learning_rate
        self.plateau = (
            PlateauController(schedule, self.best.mode, optimizer) if isinstance(schedule, ReduceOnPlateau) else None
        )

    def evaluate(self, row: Mapping[str, float], state: TrainState) -> SelectionUpdate:
        """Return the outcome of an evaluation; nothing changes until it is committed.

        Args:
            row: row of the history.
            state: position of the run.

        Raises:
            UsageError: if the monitored metric is not logged.
        """
        value, elapsed = self._get_value(row), state.elapsed
        early_stop = copy.copy(self.early_stop)
        reason = early_stop.update(elapsed, value)
        is_last = elapsed.epochs >= self.scenario.trainer.epochs  # nothing is stopped early after the last epoch
        best = self._updated_best(elapsed, value)
        return SelectionUpdate(
            elapsed=elapsed,
            position=state.position_after_evaluation,
            value=value,
            best=best,
            is_improved=best is not self.best,
            early_stop=early_stop,
            stop_reason=None if is_last else reason,
        )

    def evaluate_again(self, update: SelectionUpdate, row: Mapping[str, float]) -> SelectionUpdate:
        """Return the outcome of the evaluation that stops the training, once all its validations have run."""
        value = self._get_value(row)
        best = self._updated_best(update.elapsed, value)
        return dataclasses.replace(update, value=value, best=best, is_improved=best is not self.best)

    def commit(self, update: SelectionUpdate) -> None:
        """Make the outcome of an evaluation the current state, and log what follows from it."""
        self.best, self.early_stop, self.stop_reason = update.best, update.early_stop, update.stop_reason
        if update.value is not None and math.isnan(update.value):
            kept = f"best/ is still {self.best.place}" if self.best.epoch is not None else "there is no best/ yet"
            place = format_row_place({"epoch": update.elapsed.epochs, "step": update.elapsed.steps})
            logger.warning("%s is NaN in %s: %s", self.best.monitor, place, kept)
        if self.plateau is not None and update.value is not None:  # after the last epoch too: the run may be resumed
            self.plateau.update(update.value)
        if update.value is not None:
            ranked = RankedCheckpoint(update.position, as_row_epoch(update.elapsed.epochs), update.value)
            self.best_checkpoints = self.best_checkpoints.updated(ranked)
        if update.stop_reason:
            logger.info("stopped early: %s", update.stop_reason)

    def _get_value(self, row: Mapping[str, float]) -> float | None:
        """Return the monitored value of a row; None if it has none, or if no callback has logged it yet."""
        try:
            return self.best.get_value(row)
        except UsageError as problem:
            if not self.scenario.callbacks:
                raise
            self._once_logger.warning(f"{problem}; no callback has logged it yet")
            return None

    def check_logged_in_time(self, logged_late: Collection[str]) -> None:
        """Check that the monitored value was not logged after the selection of the best.

        Args:
            logged_late: names of the values that were logged in `on_epoch_end`.

        Raises:
            UsageError: if it was; names the hooks that run before.
        """
        if self.best.monitor in logged_late:
            raise UsageError(
                f"--early_stopping.monitor {self.best.monitor}: logged in `on_epoch_end`, after the best epoch is "
                "selected; log it in `on_step_end` or `on_validation_end`"
            )

    def _updated_best(self, elapsed: Elapsed, value: float | None) -> BestTracker:
        return self.best if value is None else self.best.updated(elapsed, value)

    def state(self) -> SelectionState:
        """Return the state for a checkpoint."""
        return SelectionState(
            monitor=self.best.monitor,
            mode=self.best.mode,
            best=self.best.state(),
            early_stopping=self.early_stop.state(),
            stop_reason=self.stop_reason,
            stop_settings=self.scenario.early_stopping.to_dict(),
            plateau=self.plateau.state() if self.plateau is not None else None,
            best_checkpoints=self.best_checkpoints.state(),
        )

    def restore(
        self,
        saved: SelectionState,
        best_on_disk: Mapping[str, float],
        now: Elapsed,
        reset_best: bool,
        reset_lr: bool,
    ) -> None:
        """Restore the state of a checkpoint.

        Args:
            saved: state that `state` returned.
            best_on_disk: metrics of best/, which may be of a later epoch than the checkpoint and must not get worse;
                empty if there is none, or if it belongs to an abandoned epoch.
            now: completed part of the run.
            reset_best: drop the best value so far.
            reset_lr: drop the learning-rate reduction of a plateau.
        """
        has_new_monitor = (saved.monitor, saved.mode) != (self.best.monitor, self.best.mode)
        if self.plateau is not None:
            if saved.plateau is None or reset_lr:
                self.plateau.reset()
            else:
                self.plateau.restore(saved.plateau, has_new_monitor)
        if has_new_monitor:
            logger.warning("monitor changed to %s; the best epoch is reset", self.best.monitor)
        elif not reset_best:
            self.best = self.best.restored(saved.best)
            if self.best.monitor in best_on_disk:
                later = Elapsed(best_on_disk["epoch"], int(best_on_disk.get("step", 0)))
                self.best = self.best.updated(later, best_on_disk[self.best.monitor])
            self.early_stop.restore(saved.early_stopping, now)
            if saved.stop_settings == self.scenario.early_stopping.to_dict():
                self.stop_reason = saved.stop_reason

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
        row = {**dict.fromkeys(self._measured, 0.0), **validated}
        if not self.scenario.callbacks:  # which do not run in a dry run
            self.best.get_value(row)

    def _make_best_tracker(self) -> BestTracker:
        validation, scenario = self._validations.validation, self.scenario
        has_validation = validation is not None
        best = make_best_tracker(scenario.early_stopping, type(scenario.model), self._measured, has_validation)
        if not scenario.callbacks:  # which may log any name
            best.check_monitor_exists(
                self._measured,
                has_validation=has_validation,
                has_evaluator=validation is not None and validation.evaluator is not None,
                lavs=list(self._validations.lavs),
                has_lav_evaluator=scenario.evaluator is not None,
            )
        return best


def read_later_best(output_dir: OutputDir | None, history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the metrics of best/ if it is later than the last row of a history; empty otherwise."""
    metrics = Run(output_dir).best_metrics if output_dir is not None else {}
    return metrics if metrics.get("epoch", 0) > (history[-1]["epoch"] if history else 0) else {}
