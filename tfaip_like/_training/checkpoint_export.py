"""Export of the model of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

import keras

from tfaip_like._export.layout import VERSIONS, read_versions
from tfaip_like._export.missing_saved_models import add_saved_models
from tfaip_like._export.writing import ExportFiles, add_metrics
from tfaip_like._keras_ext.extended_optimizer import default_ema_momentum, finalize_averaged_weights
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training import variables
from tfaip_like._training.checkpointing.checkpoints import Checkpoint, CheckpointData
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._network import build_networks, reset_keras
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import Constant, ReduceOnPlateau, TrainingLength

logger = logging.getLogger(__name__)


def export_checkpoint(checkpoint: Checkpoint, export: Path) -> None:
    """Export the model of a checkpoint, with averaged weights if the run exports those.

    A checkpoint without an evaluation has no metrics; its export gets those of the previous evaluation.

    Args:
        checkpoint: checkpoint to export.
        export: export directory to write.

    Raises:
        UsageError: if the checkpoint is corrupt, or the code of its scenario is missing or has changed.
    """
    content = checkpoint.read()
    scenario = checkpoint.load_scenario()
    policy = keras.config.dtype_policy()
    reset_keras(scenario.trainer.precision)
    try:
        networks = build_networks(scenario.model, scenario.data)
        try:
            variables.restore_network(networks.training, content.arrays)
        except UsageError as error:
            raise UsageError(f"{checkpoint.path}: {error}") from error
        _apply_ema_weights(networks.training, scenario, content, checkpoint.path)
        steps, done = content.state.batching.steps_per_epoch, checkpoint.position
        position = TrainingPosition.of_step(done.epoch * steps + done.step, steps)
        with atomic_directory(export) as staging_dir, use_position(lambda: position):
            finite_inputs = _read_finite_inputs(checkpoint.run_dir)
            ExportFiles(networks, scenario).write(staging_dir, finite_inputs)
            add_saved_models([staging_dir], scenario)
            history = content.state.history
            add_metrics(staging_dir, history[-1] if history else {"epoch": 0})
    finally:
        keras.config.set_dtype_policy(policy)


def _apply_ema_weights(network: keras.Model, scenario: Scenario, content: CheckpointData, path: Path) -> None:
    """Replace the weights of a network with their averages, if the run exports those.

    Raises:
        UsageError: if the checkpoint lacks an average.
    """
    if scenario.trainer.no_train_scope is not None:
        freeze(network, scenario.trainer.no_train_scope)
    steps = content.state.batching.steps_per_epoch
    rate = default_ema_momentum(steps) if scenario.trainer.calc_ema == -1 else scenario.trainer.calc_ema
    if rate and scenario.model.has_train_step():
        origin = type(scenario.model).__name__
        raise UsageError(f"{path}: averaged weights (--trainer.calc_ema) of {origin}.train_step are only in best/")
    optimizer = scenario.optimizer.build(
        Constant().build(TrainingLength(steps, epochs=1)),  # unused: the optimizer makes no step
        network.trainable_variables,
        has_rate_factor=isinstance(scenario.learning_rate, ReduceOnPlateau),
        ema_momentum=rate,
        paths=weight_paths(network),
    )
    if not hasattr(optimizer, "averages"):
        return
    if missing := variables.restore_optimizer(optimizer, content.arrays):
        raise UsageError(f"{path}: cannot export averaged weights; {missing[0]} is missing in the checkpoint")
    finalize_averaged_weights(optimizer)


def _read_finite_inputs(run: OutputDir) -> tuple[str, ...]:
    """Return the inputs that reject NaN, as found during training."""
    exports = [export for export in (run.best, run.export) if (export / VERSIONS).exists()]
    return read_versions(exports[0]).finite_inputs if exports else ()
