"""Going on with a run: what its checkpoint gives back, and what changed parameters make of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from tfaip_like._export.layout import read_metrics
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training import state
from tfaip_like._training.checkpointing.checkpoints import (
    PARAMS,
    STATE,
    Checkpoint,
    CheckpointData,
    Position,
    list_checkpoints,
    load_latest_valid,
    supersede_later_checkpoints,
)
from tfaip_like._training.checkpointing.saved_state import SavedState
from tfaip_like._training.epoch_finalizer import EpochFinalizer, EpochResult
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.files import move_directory
from tfaip_like._utils.typed_json import decode
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.params._tree import diff_params
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

logger = logging.getLogger(__name__)

IGNORED_ON_RESUME = {
    "--warmstart": "the weights come from the checkpoint",
}
RESUME_CAVEATS = {
    "--trainer.random_seed": "the data get another order from here on; layers go on with their own random states",
    "--model": "where it changes what is learnt, not what shape it has, it is so from here on",
}
"""What people may expect otherwise, by the beginning of a flag."""
DATA_FLAG_PREFIXES = ("--data", "--train.", "--trainer.random_seed")
"""How flags begin that decide on the training samples and their order."""
RESULT_NEUTRAL_SETTINGS = ("num_processes", "prefetch", "timeout_seconds", "cache", "on_bad_sample", "max_bad_samples")
"""Parameters among them that do not."""


@dataclass(frozen=True)
class ResumeState:
    """Where a run goes on, and with what."""

    checkpoint: Checkpoint
    content: CheckpointData
    state: SavedState
    settings: Resume

    @property
    def epoch_result(self) -> EpochResult | None:
        """What the steps of the running epoch gave, if all of them are done."""
        values = self.state["trained"]
        return EpochResult(**values) if values else None

    @property
    def seconds(self) -> tuple[float, float]:
        """What the running epoch has taken so far, and how much of it was waiting for data."""
        return self.state["seconds"], self.state["waited"]

    def position(self, loader: DataLoader) -> Position:
        """Where in these batches it goes on: exactly, or at the same part of the epoch if they are others."""
        saved, steps = self.checkpoint.position, loader.steps_per_epoch
        if self.epoch_result is not None:
            return Position(saved.epoch, steps)
        return Position(saved.epoch, saved.step * steps // self._batching["steps_per_epoch"])

    def schedule_begin(self) -> float:
        """Epochs before the learning-rate schedule begins."""
        if self.settings.learning_rate == "fresh":
            position = self.checkpoint.position
            return position.epoch + position.step / float(self._batching["steps_per_epoch"])
        return float(self.state["schedule_begin"])

    def steps_per_execution(self, loader: DataLoader) -> int | None:
        """Steps in an execution, as before; None if the batches are others."""
        return int(self.state["at_once"]) if self._batching == batching_signature(loader) else None

    def stream_length(self, scenario: Scenario, output_dir: OutputDir | None) -> PassCounts | None:
        """Return what a pass over the training samples is known to have; None if it must be counted again."""
        kept = self.state.get("stream")
        if kept is None or kept["counted"] is None or not self._has_same_data(scenario, output_dir):
            return None
        return PassCounts(*kept["counted"])

    def restore_data_position(self, scenario: Scenario, output_dir: OutputDir | None, loader: DataLoader) -> None:
        """Let the training batches begin where the run continues."""
        position = self.position(loader)
        now = batching_signature(loader)
        is_same = all(self._batching[name] == now[name] for name in ("steps_per_epoch", "batch_size", "accumulate"))
        is_same = is_same and self._has_same_data(scenario, output_dir)
        step = position.epoch * loader.steps_per_epoch + position.step
        loader.seek(step, self.state.get("stream"), is_same)

    def _has_same_data(self, scenario: Scenario, output_dir: OutputDir | None) -> bool:
        """Return whether the training samples are made as before, as far as parameters tell."""
        try:
            changed = (
                [flag for flag, _, _ in self.changed_params(scenario, output_dir)] if output_dir is not None else []
            )
        except UsageError:
            return False
        return not any(
            flag.startswith(DATA_FLAG_PREFIXES) and flag.rpartition(".")[2] not in RESULT_NEUTRAL_SETTINGS
            for flag in changed
        )

    def restore(
        self,
        scenario: Scenario,
        model: TrainingModel,
        optimizer: keras.optimizers.Optimizer,
        epoch_finalizer: EpochFinalizer,
        loader: DataLoader,
    ) -> None:
        """Put the state of the checkpoint into the parts of a training.

        Raises:
            UsageError: when it lacks a value that no other parameter explains.
        """
        arrays = self.content.arrays
        new_layers = state.restore_network(model.network, arrays)
        missing: list[str] = []
        if hasattr(optimizer, "reset_averages"):
            optimizer.reset_averages()  # it was built with other ones
        is_kept = self.settings.optimizer != "fresh"
        if not is_kept:
            logger.info("the optimizer begins anew (--resume.optimizer fresh)")
        elif (lacking := state.restore_optimizer(model.optimizer, arrays)) is not None:
            missing = lacking
        else:
            is_kept = False
            logger.warning("the checkpoint is of another optimizer, or of other weights to train: it begins anew")
        if missing and not self._has_changed_params(scenario, epoch_finalizer.output_dir):
            raise UsageError(
                f"{self.checkpoint.path}: has no value for {truncate_list(missing)}, so the run cannot be resumed"
            )
        if missing or new_layers:
            logger.warning(
                "not in the checkpoint, so from its start value on: %s", truncate_list([*missing, *new_layers])
            )
        if is_kept and self._batching == batching_signature(loader) and self.settings.learning_rate != "fresh":
            epoch_finalizer.lr_schedule.offset = int(self.state["schedule_offset"])
        else:
            position = self.position(loader)
            done = position.epoch + position.step / loader.steps_per_epoch - self.schedule_begin()
            epoch_finalizer.lr_schedule.offset = round(done * loader.steps_per_epoch) - int(optimizer.iterations)
        state.restore_random(model, arrays)
        epoch_finalizer.restore(
            self.state,
            reset_best=self.settings.early_stopping == "fresh",
            reset_lr=self.settings.learning_rate == "fresh",
            has_abandoned_epochs=self.settings.epoch is not None,
        )

    def supersede_later_checkpoints(self, output_dir: OutputDir) -> None:
        """Move what comes after this checkpoint out of the way: checkpoints, and exports of abandoned epochs.

        Later checkpoints are those after the chosen epoch, or damaged ones, which must not count among the latest.
        """
        superseded_dir, moved = supersede_later_checkpoints(output_dir.checkpoints, self.checkpoint.position)
        if moved:
            logger.warning("%s moved to %s", pluralize(moved, "later checkpoint"), superseded_dir)
        for export in (output_dir.best, output_dir.export):
            if self.settings.epoch is not None and read_metrics(export).get("epoch", 0) > self.settings.epoch:
                superseded_dir.mkdir(exist_ok=True)
                move_directory(export, superseded_dir / export.name)

    def restore_best(self, model: TrainingModel, epoch_finalizer: EpochFinalizer) -> None:
        """Put the model of the best epoch into best/ again, if another or none is there.

        That is so after `--resume.epoch`, where an abandoned epoch was better, and where best/ was deleted.
        """
        output_dir, epoch = epoch_finalizer.output_dir, epoch_finalizer.best.epoch
        if output_dir is None or epoch is None or read_metrics(output_dir.best).get("epoch") == epoch:
            return
        saved = next(
            (one for one in list_checkpoints(output_dir.checkpoints) if one.position == Position(epoch, 0)), None
        )
        if saved is None:
            logger.warning(
                "best/ has no model of epoch %d, the best so far, and there is no checkpoint of it: the best of the "
                "epochs from here on is kept",
                epoch,
            )
            epoch_finalizer.clear_best()
            return
        now = state.capture(model)
        for arrays, is_best in ((saved.read().arrays, True), (now, False)):
            state.restore_network(model.network, arrays)
            state.restore_optimizer(model.optimizer, arrays)
            state.restore_random(model, arrays)
            if is_best:
                epoch_finalizer.export_best(epoch)
        logger.info("best/ holds the model of epoch %d again", epoch)

    def restore_epoch_metrics(self, model: TrainingModel) -> None:
        """Put the sums of the running epoch back, once `fit` has reset them."""
        if missing := state.restore_metrics(model, self.content.arrays):
            logger.warning("not in the checkpoint, so measured from here on in this epoch: %s", truncate_list(missing))

    def changed_params(self, scenario: Scenario, output_dir: OutputDir) -> list[tuple[str, str, str]]:
        """Return flag, old and new value of each parameter that differs from the checkpoint's.

        Raises:
            UsageError: when the scenario has other parameters now.
        """
        try:
            params = type(scenario).from_dict(dict(self.content.params))
        except UsageError as error:
            raise UsageError(f"{self.checkpoint.path / PARAMS}: {error}") from error
        before = resolve_resource_paths(params, output_dir.path)
        # The folder may have been moved.
        return [change for change in diff_params(before, scenario) if change[0] != "--trainer.output_dir"]

    def _has_changed_params(self, scenario: Scenario, output_dir: OutputDir | None) -> bool:
        try:
            return output_dir is None or bool(self.changed_params(scenario, output_dir))
        except UsageError:
            return True

    @property
    def _batching(self) -> Mapping[str, Any]:
        batching: Mapping[str, Any] = self.state["batching"]
        return batching


def batching_signature(loader: DataLoader) -> dict[str, Any]:
    """What decides which samples a step has, and how many steps are run at once."""
    return {
        "steps_per_epoch": loader.steps_per_epoch,
        "batch_size": loader.batch_size,
        "accumulate": loader.accumulate,
        "stacked": loader.yields_stacked_steps,
        "backend": keras.backend.backend(),  # each runs another number of steps at once
    }


def load_resume_state(output_dir: OutputDir, settings: Resume) -> ResumeState | None:
    """The state that a run goes on from; None if it was killed before it saved one.

    Raises:
        UsageError: when there is none that was asked for, or all are damaged.
    """
    if settings.epoch is None:
        found = load_latest_valid(output_dir.checkpoints)
        return _make_resume_state(*found, settings) if found else None
    wanted = Position(settings.epoch, 0)
    known = {checkpoint.position: checkpoint for checkpoint in list_checkpoints(output_dir.checkpoints)}
    if wanted not in known:
        epochs = ", ".join(str(position.epoch) for position in known if not position.step)
        raise UsageError(
            f"--resume.epoch {settings.epoch}: no checkpoint of this epoch in {output_dir.checkpoints} (available: "
            f"{epochs or 'none'});\nuse --trainer.keep_every_n 1 to keep all checkpoints of a run"
        )
    return _make_resume_state(known[wanted], known[wanted].read(), settings)


def _make_resume_state(checkpoint: Checkpoint, content: CheckpointData, settings: Resume) -> ResumeState:
    state = decode(SavedState, dict(content.state), str(checkpoint.path / STATE))
    return ResumeState(checkpoint, content, state, settings)


def log_param_changes(output_dir: OutputDir, resume_state: ResumeState, scenario: Scenario) -> list[str]:
    """Logs what is other than in the checkpoint, and returns it: `--trainer.epochs: 10 -> 20`."""
    try:
        differences = resume_state.changed_params(scenario, output_dir)
    except UsageError as problem:
        logger.warning("what has changed since cannot be told: the scenario has other parameters now: %s", problem)
        return []
    changes = []
    for flag, old, new in differences:
        changes.append(f"{flag}: {old or 'none'} -> {new or 'none'}")
        note = ""
        for notes in (IGNORED_ON_RESUME, RESUME_CAVEATS):
            note = next((text for begin, text in notes.items() if flag.startswith(begin)), note)
        is_ignored = any(flag.startswith(begin) for begin in IGNORED_ON_RESUME)
        level = logging.WARNING if is_ignored else logging.INFO
        logger.log(
            level, "changed %s%s%s", changes[-1], " has no effect: " if is_ignored else "; " if note else "", note
        )
    return changes
