"""Exports of checkpoints: the model of any epoch whose checkpoint was kept."""

from __future__ import annotations

import logging
from pathlib import Path

import keras

from tfaip_like._export.layout import VERSIONS, read_versions
from tfaip_like._export.writing import add_metrics, add_saved_models, fill_export
from tfaip_like._keras_ext.extended_optimizer import average_rate, keep_averages
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training import state
from tfaip_like._training.checkpointing.checkpoint_scenario import run_of, scenario_of_checkpoint
from tfaip_like._training.checkpointing.checkpoints import STATE, Checkpoint, Content
from tfaip_like._training.checkpointing.saved_state import SavedState
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import new_folder
from tfaip_like._utils.records import decode
from tfaip_like.modeling._network import build_networks, reset_keras
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import Constant, Course, ReduceOnPlateau

logger = logging.getLogger(__name__)


def export_checkpoint(checkpoint: Checkpoint, export: Path) -> None:
    """Write the model of a checkpoint as an export, with averaged weights if the training exported them.

    A checkpoint in the middle of an epoch has no metrics: its export has those of the epoch before.

    Raises:
        UsageError: when the checkpoint is damaged, or the code of its scenario is not here or has changed.
    """
    content = checkpoint.read()
    saved = decode(SavedState, dict(content.state), str(checkpoint.path / STATE))
    scenario = scenario_of_checkpoint(checkpoint)
    policy = keras.config.dtype_policy()
    reset_keras(scenario.trainer.precision)
    try:
        networks = build_networks(scenario.model, scenario.data)
        try:
            state.restore_network(networks.training, content.arrays)
        except UsageError as error:
            raise UsageError(f"{checkpoint.path}: {error}") from error
        _average(networks.training, scenario, content, saved, checkpoint.path)
        with new_folder(export) as aside:
            fill_export(aside, networks, scenario, finite_inputs=sorted(_finite_inputs(run_of(checkpoint))))
            add_saved_models([aside], scenario)
            history = saved["history"]
            add_metrics(aside, {**(history[-1] if history else {}), "epoch": checkpoint.position.epoch})
    finally:
        keras.config.set_dtype_policy(policy)


def _average(network: keras.Model, scenario: Scenario, content: Content, saved: SavedState, path: Path) -> None:
    """Give a network the averages of its weights, if the training exported them."""
    if scenario.trainer.no_train_scope is not None:
        freeze(network, scenario.trainer.no_train_scope)
    steps = saved["batching"]["steps_per_epoch"]
    rate = average_rate(steps) if scenario.trainer.calc_ema == -1 else scenario.trainer.calc_ema
    optimizer = scenario.optimizer.build(
        Constant().build(Course(steps, epochs=1)),  # no step is made with it
        network.trainable_variables,
        scaled=isinstance(scenario.learning_rate, ReduceOnPlateau),
        average=rate,
        paths=weight_paths(network),
    )
    if not hasattr(optimizer, "averages"):
        return
    if missing := state.restore_optimizer(optimizer, content.arrays):
        raise UsageError(f"{path}: has no value for {missing[0]}, so the averages of its weights are not known")
    keep_averages(optimizer)


def _finite_inputs(run: OutputDir) -> frozenset[str]:
    """Return the inputs in which NaN is refused, as they were found while the run trained the same network."""
    exports = [export for export in (run.best, run.export) if (export / VERSIONS).exists()]
    return read_versions(exports[0]).finite_inputs if exports else frozenset()
