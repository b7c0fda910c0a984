"""Evaluation at the end of an epoch and within it: validation, model selection, export, recording."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like._keras_ext.snapshots import read_array
from tfaip_like._runs.run_files import as_row_epoch
from tfaip_like._training.callbacks.run_context import TrainingContext
from tfaip_like._training.callbacks.validation_observer import ValidationObserver
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.device_usage import DeviceUsage
from tfaip_like._training.exports import exported_weights
from tfaip_like._training.loggers.training_loggers import TrainingLoggers
from tfaip_like._training.selection.model_selection import SelectionUpdate
from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like._training.validation.validations import Summaries
from tfaip_like._utils.files import retry_while_disk_full
from tfaip_like._utils.processes import resident_memory_mb
from tfaip_like.evaluation._evaluation import EvaluationResult
from tfaip_like.modeling._context import TrainingPosition, use_position


class Evaluation:
    """Evaluation of a run; the state of model selection changes only after everything that may fail.

    Args:
        components: components of the run.
        context: view of the training for callbacks.
        loggers: loggers of the run.
        device_usage: measurement of the use of the devices.
    """

    def __init__(
        self,
        components: TrainingComponents,
        context: TrainingContext,
        loggers: TrainingLoggers,
        device_usage: DeviceUsage,
    ):
        self.components = components
        self._device_usage = device_usage
        self.context = context
        self.loggers = loggers

    def run(self, state: TrainState) -> None:
        """Validate, select, export and record after the completed steps; training is not affected.

        Args:
            state: position of the run, with the training metrics.
        """
        components = self.components
        with components.progress.measure_evaluation(state.epoch + 1), preserve_metrics(components.model):
            with exported_weights(components.networks.training, components.optimizer):
                row, summaries, update = self._evaluate(state)
                is_saved = update.is_improved and components.output_dir is not None
                if is_saved:
                    self._write(components.exports.capture_best)
                components.exports.discard_current()
            if state.is_epoch_complete:
                before = dict(self.context.logged)
                components.callbacks.call("on_epoch_end", self.context, {**row, **before})
                components.selection.check_logged_in_time(self.context.logged.keys() - before.keys())
            row |= self.context.logged
            if is_saved:
                self._write(lambda: components.exports.save_best(row))
            if self._must_stop(state) and update.stop_reason is None:
                update = dataclasses.replace(update, stop_reason=self.context.stop_reason)
            logged = components.recorder.to_logged_epoch(row, update.is_best, summaries)
            self._write(lambda: self.loggers.log(logged))
            self._write(lambda: components.recorder.record(row, summaries))
            components.recorder.log(row, update.is_improved)
            components.selection.commit(update)

    def _must_stop(self, state: TrainState) -> bool:
        """Return whether a callback has requested to stop: at the end of the epoch, unless it is the last."""
        is_last = state.epoch + 1 >= self.components.trainer.epochs
        return bool(self.context.stop_reason) and state.is_epoch_complete and not is_last

    def _evaluate(self, state: TrainState) -> tuple[dict[str, float], Summaries, SelectionUpdate]:
        """Run the validations that are due; return the row of the history, the summaries and what is selected."""
        components, elapsed = self.components, state.elapsed
        assert state.metrics is not None
        row: dict[str, float] = {"epoch": as_row_epoch(elapsed.epochs), "step": elapsed.steps, **state.metrics}
        summaries: Summaries = {}
        self._validate(components.validations.due_at(state), row, summaries)
        row |= self._measurements(state)
        update = components.selection.evaluate({**row, **self.context.logged}, state)
        if update.stop_reason or self._must_stop(state):  # now that this is the end, all validations run
            self._validate(components.validations.due_at(state, is_last=True), row, summaries)
            update = components.selection.evaluate_again(update, {**row, **self.context.logged})
        row |= components.recorder.compare(row)
        return row, summaries, update

    def _validate(
        self, validations: Iterable[Validation | LavValidation], row: dict[str, float], summaries: Summaries
    ) -> None:
        """Run validations that have not run in this evaluation, and add their metrics and summaries."""
        pending = [validation for validation in validations if validation.prefix not in summaries]
        if not pending:
            return
        components = self.components
        metrics: dict[str, float] = {}
        for validation in pending:
            evaluation = self._run(validation)
            metrics |= evaluation.numbers
            summaries[validation.prefix] = evaluation.summaries
        row |= metrics
        shown = {f"{each.prefix}{name}": value for each in pending for name, value in summaries[each.prefix].items()}
        components.callbacks.call("on_validation_end", self.context, metrics, shown)

    def _run(self, validation: Validation | LavValidation) -> EvaluationResult:
        """Run a validation with its progress bar; Keras callbacks see that of the network."""
        components = self.components
        callbacks = components.callbacks if isinstance(validation, Validation) else None
        with components.progress.measure_validation(validation.prefix, validation.loader.num_batches) as set_done:
            observer = ValidationObserver(set_done, self.context, callbacks)
            if callbacks is not None:
                callbacks.call_keras("on_test_begin", self.context)
            # Otherwise the export would have a state that the training never had.
            with preserve_network_state(components.networks.training):
                evaluation = validation(observer=observer)
            if callbacks is not None:
                callbacks.call_keras("on_test_end", self.context, evaluation.numbers)
        return evaluation

    def _measurements(self, state: TrainState) -> dict[str, float]:
        """Return the learning rate, and throughput and memory since the last evaluation."""
        steps = state.step - state.evaluated_step
        part = steps / state.steps_per_epoch
        seconds = state.seconds - state.evaluated_seconds
        return {
            "lr": self._last_learning_rate(),
            "seconds": round(seconds, 3),
            "samples_per_second": round(self.components.loader.samples_per_epoch * part / seconds, 1),
            "input_bound": round(min(1.0, state.waited / seconds), 4),
            "memory_mb": resident_memory_mb(),
            **self._device_usage.measurements(steps, seconds),
        }

    def _last_learning_rate(self) -> float:
        optimizer, plateau = self.components.optimizer, self.components.selection.plateau
        rate = float(keras.ops.convert_to_numpy(self.components.lr_schedule(int(optimizer.iterations) - 1)))
        if plateau is not None:
            rate *= float(optimizer.rate_factor)
        return float(f"{rate:.7g}")  # the precision of float32

    def _write(self, write: Callable[[], None]) -> None:
        output_dir = self.components.output_dir
        path = output_dir.path if output_dir is not None else Path()
        retry_while_disk_full(path, write, self.components.interrupt.check)


@contextmanager
def preserve_metrics(model: keras.Model) -> Iterator[None]:
    """Undo, at the end of the block, what validations do to the metrics, which they share with training."""
    values = [np.array(read_array(variable)) for variable in model.metrics_variables]
    try:
        yield
    finally:
        for variable, value in zip(model.metrics_variables, values, strict=True):
            variable.assign(value)


def export_best(components: TrainingComponents, epoch: float) -> None:
    """Write best/ from the network, which must have the weights of this epoch of the history."""
    row = next(row for row in components.recorder.history.rows if row["epoch"] == epoch)
    position = TrainingPosition.of_step(int(row["step"]), components.loader.steps_per_epoch)
    with use_position(lambda: position):
        _export(components, components.exports.capture_best)
        _export(components, lambda: components.exports.save_best(row))


def export_last(components: TrainingComponents) -> None:
    """Write export/, the model of the last epoch."""
    if components.output_dir is not None:
        row = components.recorder.history.rows[-1]
        is_best = components.selection.best.epoch == row["epoch"]
        _export(components, lambda: components.exports.save_last(row, is_best))


def _export(components: TrainingComponents, write: Callable[[], None]) -> None:
    assert components.output_dir is not None
    with exported_weights(components.networks.training, components.optimizer):
        retry_while_disk_full(components.output_dir.path, write, components.interrupt.check)
