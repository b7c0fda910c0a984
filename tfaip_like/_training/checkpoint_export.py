"""Exports of checkpoints: the model of any epoch whose checkpoint was kept."""

from __future__ import annotations

import logging
from pathlib import Path

import keras

from tfaip_like._export.layout import VERSIONS, read_versions
from tfaip_like._export.writing import add_metrics, add_saved_models, fill_export
from tfaip_like._keras_ext.extended_optimizer import default_ema_momentum, finalize_averaged_weights
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training import state
from tfaip_like._training.checkpointing.checkpoint_scenario import find_run_dir, load_checkpoint_scenario
from tfaip_like._training.checkpointing.checkpoints import STATE, Checkpoint, CheckpointData
from tfaip_like._training.checkpointing.saved_state import SavedState
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory
from tfaip_like._utils.typed_json import decode
from tfaip_like.modeling._network import build_networks, reset_keras
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import Constant, ReduceOnPlateau, TrainingLength

logger = logging.getLogger(__name__)


def export_checkpoint(checkpoint: Checkpoint, export: Path) -> None:
    """Write the model of a checkpoint as an export, with averaged weights if the training exported them.

    A checkpoint in the middle of an epoch has no metrics: its export has those of the epoch before.

    Raises:
        UsageError: when the checkpoint is damaged, or the code of its scenario is not here or has changed.
    """
    content = checkpoint.read()
    saved = decode(SavedState, dict(content.state), str(checkpoint.path / STATE))
    scenario = load_checkpoint_scenario(checkpoint)
    policy = keras.config.dtype_policy()
    reset_keras(scenario.trainer.precision)
    try:
        networks = build_networks(scenario.model, scenario.data)
        try:
            state.restore_network(networks.training, content.arrays)
        except UsageError as error:
            raise UsageError(f"{checkpoint.path}: {error}") from error
        _apply_ema_weights(networks.training, scenario, content, saved, checkpoint.path)
        with atomic_directory(export) as staging_dir:
            fill_export(
                staging_dir, networks, scenario, finite_inputs=sorted(_read_finite_inputs(find_run_dir(checkpoint)))
            )
            add_saved_models([staging_dir], scenario)
            history = saved["history"]
            add_metrics(staging_dir, {**(history[-1] if history else {}), "epoch": checkpoint.position.epoch})
    finally:
        keras.config.set_dtype_policy(policy)


def _apply_ema_weights(
    network: keras.Model, scenario: Scenario, content: CheckpointData, saved: SavedState, path: Path
) -> None:
    """Give a network the averages of its weights, if the training exported them."""
    if scenario.trainer.no_train_scope is not None:
        freeze(network, scenario.trainer.no_train_scope)
    steps = saved["batching"]["steps_per_epoch"]
    rate = default_ema_momentum(steps) if scenario.trainer.calc_ema == -1 else scenario.trainer.calc_ema
    optimizer = scenario.optimizer.build(
        Constant().build(TrainingLength(steps, epochs=1)),  # no step is made with it
        network.trainable_variables,
        has_rate_factor=isinstance(scenario.learning_rate, ReduceOnPlateau),
        ema_momentum=rate,
        paths=weight_paths(network),
    )
    if not hasattr(optimizer, "averages"):
        return
    if missing := state.restore_optimizer(optimizer, content.arrays):
        raise UsageError(f"{path}: has no value for {missing[0]}, so the averages of its weights are not known")
    finalize_averaged_weights(optimizer)


def _read_finite_inputs(run: OutputDir) -> frozenset[str]:
    """Return the inputs in which NaN is refused, as they were found while the run trained the same network."""
    exports = [export for export in (run.best, run.export) if (export / VERSIONS).exists()]
    return read_versions(exports[0]).finite_inputs if exports else frozenset()
