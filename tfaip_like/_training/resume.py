"""Resuming: restore a run from a checkpoint and reconcile changed parameters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import format_epoch, read_metrics
from tfaip_like._training import variables
from tfaip_like._training.callbacks.run_context import TrainingContext
from tfaip_like._training.checkpointing.checkpoints import (
    PARAMS,
    Checkpoint,
    CheckpointData,
    Position,
    list_checkpoints,
    load_latest_valid,
    supersede_later_checkpoints,
)
from tfaip_like._training.checkpointing.state_schema import Batching, SavedState
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.evaluation import export_best
from tfaip_like._training.selection.model_selection import read_later_best
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.train_state import TrainState
from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.files import move_directory
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.params._field_rules import AffectsTrainingSamples, OnResume, UniquePerRun, find_rule
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.params._tree import diff_params, flag_to_path
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResumeState:
    """State from which a run is resumed."""

    checkpoint: Checkpoint
    content: CheckpointData
    settings: Resume

    @property
    def state(self) -> SavedState:
        """Return the state that is not an array."""
        return self.content.state

    def train_state(self, loader: DataLoader) -> TrainState:
        """Return the position in a loader: the same step, or the same fraction of an epoch of another length."""
        saved, steps, before = self.checkpoint.position, loader.steps_per_epoch, self.state.batching.steps_per_epoch
        return TrainState(
            steps_per_epoch=steps,
            epoch=saved.epoch,
            step=saved.step * steps // before,
            seconds=self.state.seconds,
            evaluated_step=self.state.evaluated_step * steps // before,
            evaluated_seconds=self.state.evaluated_seconds,
            waited=self.state.waited,
            metrics=self.state.metrics,
        )

    def schedule_begin(self) -> float:
        """Return the epoch (possibly fractional) at which the learning-rate schedule starts."""
        if self.settings.learning_rate == "fresh":
            position = self.checkpoint.position
            return position.epoch + position.step / self.state.batching.steps_per_epoch
        return self.state.schedule_begin

    def steps_per_execution(self, loader: DataLoader) -> int | None:
        """Return the steps per execution of the checkpoint; None if the batching has changed."""
        return self.state.steps_per_execution if self.state.batching == batching_signature(loader) else None

    def pads_lengths(self, loader: DataLoader) -> bool | None:
        """Return whether the run pads batches of variable lengths; None if the batching has changed."""
        return self.state.pads_lengths if self.state.batching == batching_signature(loader) else None

    def stream_length(self, scenario: Scenario, output_dir: OutputDir | None) -> PassCounts | None:
        """Return the known length of a pass over an iterable-only source; None if it must be counted again."""
        stream = self.state.stream
        if stream is None or stream.pass_counts is None or not self._has_same_data(scenario, output_dir):
            return None
        return PassCounts(*stream.pass_counts)

    def restore_data_position(
        self, scenario: Scenario, output_dir: OutputDir | None, loader: DataLoader, step: int
    ) -> None:
        """Seek the training loader to the position of the checkpoint, which is this step of the run."""
        saved, current = self.state.batching, batching_signature(loader)
        is_same = (saved.steps_per_epoch, saved.batch_size, saved.accumulate) == (
            current.steps_per_epoch,
            current.batch_size,
            current.accumulate,
        )
        is_same = is_same and self._has_same_data(scenario, output_dir)
        loader.seek(step, self.state.stream, is_same)

    def _has_same_data(self, scenario: Scenario, output_dir: OutputDir | None) -> bool:
        """Return whether no changed parameter affects the training samples."""
        try:
            changed = (
                [flag for flag, _, _ in self.changed_params(scenario, output_dir)] if output_dir is not None else []
            )
        except UsageError:
            return False
        rules = (find_rule(scenario, flag_to_path(flag), AffectsTrainingSamples) for flag in changed)
        return not any(rule is not None and rule.value for rule in rules)

    def restore(self, components: TrainingComponents) -> None:
        """Restore the state of the checkpoint.

        Raises:
            UsageError: if the architecture has changed, or a value is missing that no changed parameter explains.
        """
        scenario, loader = components.scenario, components.loader
        model, optimizer, lr_schedule = components.model, components.optimizer, components.lr_schedule
        arrays = self.content.arrays
        new_layers = variables.restore_network(model.network, arrays)
        missing: list[str] = []
        if hasattr(optimizer, "reset_averages"):
            optimizer.reset_averages()  # it was built with the initial weights
        is_restored = self.settings.optimizer != "fresh"
        if not is_restored:
            logger.info("optimizer state reset (--resume.optimizer fresh)")
        elif (not_in_checkpoint := variables.restore_optimizer(model.optimizer, arrays)) is not None:
            missing = not_in_checkpoint
        else:
            is_restored = False
            logger.warning("optimizer state not restored: optimizer or trainable weights changed")
        if missing and not self._has_changed_params(scenario, components.output_dir):
            raise UsageError(f"{self.checkpoint.path}: cannot resume; missing variables: {truncate_list(missing)}")
        if missing or new_layers:
            logger.warning(
                "variables missing in the checkpoint, set to initial values: %s", truncate_list([*missing, *new_layers])
            )
        if is_restored and self.state.batching == batching_signature(loader) and self.settings.learning_rate != "fresh":
            lr_schedule.offset = self.state.schedule_offset
        else:
            epochs = components.state.elapsed.epochs - self.schedule_begin()
            lr_schedule.offset = round(epochs * loader.steps_per_epoch) - int(optimizer.iterations)
        variables.restore_random(model, arrays)
        history, has_abandoned_epochs = self.state.history, self.settings.is_rewind
        components.selection.restore(
            self.state.selection,
            {} if has_abandoned_epochs else read_later_best(components.output_dir, history),
            components.state.elapsed,
            reset_best=self.settings.early_stopping == "fresh",
            reset_lr=self.settings.learning_rate == "fresh",
        )
        if components.output_dir is not None:
            selection = components.selection
            selection.best_checkpoints = selection.best_checkpoints.restored(
                self.state.selection.best_checkpoints,
                list_checkpoints(components.output_dir.checkpoints),
                history,
                selection.best.monitor,
                self.state.batching.steps_per_epoch,
            )
        components.recorder.restore(history)

    def supersede_later_checkpoints(self, output_dir: OutputDir) -> None:
        """Move later checkpoints, and exports of abandoned epochs, to checkpoints/superseded.

        Later checkpoints are those after the chosen one, or corrupt ones, which must not count as the latest.
        """
        superseded_dir, moved = supersede_later_checkpoints(output_dir.checkpoints, self.checkpoint.position)
        if moved:
            logger.warning("%s moved to %s", pluralize(moved, "later checkpoint"), superseded_dir)
        for export in (output_dir.best, output_dir.export):
            if self.settings.is_rewind and read_metrics(export).get("epoch", 0) > self._to_epochs(
                self.checkpoint.position
            ):
                superseded_dir.mkdir(exist_ok=True)
                move_directory(export, superseded_dir / export.name)

    def restore_callbacks(self, components: TrainingComponents, context: TrainingContext) -> None:
        """Restore the state of callbacks, and what they have logged in the current epoch."""
        components.callbacks.restore(self.state.callbacks)
        context.logged |= self.state.logged

    def restore_best(self, components: TrainingComponents) -> None:
        """Export the best epoch again if best/ is missing or belongs to an abandoned epoch (`--resume.epoch`)."""
        output_dir, best, model = components.output_dir, components.selection.best, components.model
        if output_dir is None or best.epoch is None or Run(output_dir).best_metrics.get("epoch") == best.epoch:
            return
        checkpoints = list_checkpoints(output_dir.checkpoints)
        saved = next((one for one in checkpoints if self._to_epochs(one.position) == best.epoch), None)
        if saved is None:
            logger.warning(
                "cannot restore best/: no checkpoint of the best epoch (%s); best/ will contain the best of the "
                "following epochs",
                format_epoch(best.epoch),
            )
            components.selection.clear_best()
            return
        current = variables.capture(model)
        for arrays, is_best in ((saved.read().arrays, True), (current, False)):
            variables.restore_network(model.network, arrays)
            variables.restore_optimizer(model.optimizer, arrays)
            variables.restore_random(model, arrays)
            if is_best:
                export_best(components, best.epoch)
        logger.info("restored best/ from the checkpoint of %s", best.place)

    def _to_epochs(self, position: Position) -> float:
        """Return a position as in the rows of the history."""
        steps_per_epoch = self.state.batching.steps_per_epoch
        return (position.epoch * steps_per_epoch + position.step) / steps_per_epoch

    def restore_epoch_metrics(self, model: TrainingModel) -> None:
        """Restore the metrics of the current epoch."""
        if missing := variables.restore_metrics(model, self.content.arrays):
            logger.warning(
                "metrics missing in the checkpoint, averaged over the rest of this epoch only: %s",
                truncate_list(missing),
            )

    def changed_params(self, scenario: Scenario, output_dir: OutputDir) -> list[tuple[str, str, str]]:
        """Return flag, old and new value of each parameter that differs from the checkpoint's.

        Raises:
            UsageError: if the parameters of the scenario were redefined.
        """
        try:
            params = type(scenario).from_dict(dict(self.content.params))
        except UsageError as error:
            raise UsageError(f"{self.checkpoint.path / PARAMS}: {error}") from error
        before = resolve_resource_paths(params, output_dir.path)
        # The run directory may have been moved.
        return [
            change
            for change in diff_params(before, scenario)
            if find_rule(scenario, flag_to_path(change[0]), UniquePerRun) is None
        ]

    def _has_changed_params(self, scenario: Scenario, output_dir: OutputDir | None) -> bool:
        try:
            return output_dir is None or bool(self.changed_params(scenario, output_dir))
        except UsageError:
            return True


def batching_signature(loader: DataLoader) -> Batching:
    """Return the settings that determine the samples of each step and the steps per execution."""
    return Batching(
        steps_per_epoch=loader.steps_per_epoch,
        batch_size=loader.batch_size,
        accumulate=loader.accumulate,
        stacked=loader.yields_stacked_steps,
        backend=keras.backend.backend(),
    )


def load_resume_state(output_dir: OutputDir, settings: Resume) -> ResumeState | None:
    """Load the state to resume from; None if there is no checkpoint.

    Raises:
        UsageError: if the chosen checkpoint does not exist, or all checkpoints are corrupt.
    """
    if not settings.is_rewind:
        latest = load_latest_valid(output_dir.checkpoints)
        return ResumeState(*latest, settings) if latest else None
    checkpoint = _find_checkpoint(output_dir, settings)
    return ResumeState(checkpoint, checkpoint.read(), settings)


def _find_checkpoint(output_dir: OutputDir, settings: Resume) -> Checkpoint:
    """Return the chosen checkpoint (`--resume.epoch`, `--resume.checkpoint`)."""
    checkpoints = {checkpoint.position: checkpoint for checkpoint in list_checkpoints(output_dir.checkpoints)}
    if settings.checkpoint is not None:
        return _find_named_checkpoint(output_dir, settings.checkpoint, list(checkpoints.values()))
    assert settings.epoch is not None
    position = Position(settings.epoch, 0)
    if position not in checkpoints:
        epochs = ", ".join(str(other.epoch) for other in checkpoints if not other.step)
        raise UsageError(
            f"--resume.epoch {settings.epoch}: no checkpoint of this epoch in {output_dir.checkpoints} (available: "
            f"{epochs or 'none'});\nuse --trainer.keep_every_n 1 to keep all checkpoints of a run"
        )
    return checkpoints[position]


def _find_named_checkpoint(output_dir: OutputDir, name: Path, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    is_elsewhere = len(name.parts) > 1 and name.parent.resolve() != output_dir.checkpoints.resolve()
    for checkpoint in checkpoints:
        if checkpoint.path.name == name.name and not is_elsewhere:
            return checkpoint
    available = truncate_list([checkpoint.path.name for checkpoint in checkpoints], 10)
    raise UsageError(
        f"--resume.checkpoint {name}: no such checkpoint in {output_dir.checkpoints} (available: {available or 'none'})"
    )


def log_param_changes(output_dir: OutputDir, resume_state: ResumeState, scenario: Scenario) -> list[str]:
    """Log and return the parameters that differ from the checkpoint: `--trainer.epochs: 10 -> 20`."""
    try:
        differences = resume_state.changed_params(scenario, output_dir)
    except UsageError as problem:
        logger.warning("cannot list changed parameters: the scenario's parameters were redefined: %s", problem)
        return []
    changes = []
    for flag, old, new in differences:
        changes.append(f"{flag}: {old or 'none'} -> {new or 'none'}")
        rule = find_rule(scenario, flag_to_path(flag), OnResume)
        if rule is None:
            logger.info("changed %s", changes[-1])
        elif rule.is_ignored:
            logger.warning("changed %s has no effect: %s", changes[-1], rule.note)
        else:
            logger.info("changed %s; %s", changes[-1], rule.note)
    return changes
