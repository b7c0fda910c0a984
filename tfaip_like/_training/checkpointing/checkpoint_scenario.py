"""The scenario of a checkpoint, from its parameters and the scenario's code; Keras is not imported."""

from __future__ import annotations

import dataclasses

from tfaip_like._export.scenario_loading import load_scenario_file
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import PARAMS, Checkpoint
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.scenario import Scenario


def load_checkpoint_scenario(checkpoint: Checkpoint) -> Scenario:
    """Return the scenario that a checkpoint is of, with the parameters of its epoch.

    Raises:
        UsageError: when its code cannot be imported here, or does not fit its parameters.
    """
    run = find_run_dir(checkpoint)
    scenario = resolve_resource_paths(load_scenario_file(checkpoint.path / PARAMS, run), run.path)
    # What was learnt from the data lies in the run, wherever that is now.
    return dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, output_dir=run.path))


def find_run_dir(checkpoint: Checkpoint) -> OutputDir:
    """Return the run that a checkpoint lies in; it may have been moved to checkpoints/superseded."""
    folders = list(checkpoint.path.absolute().parents)[:3]
    runs = [folder for folder in folders if OutputDir(folder).trainer_params.exists()]
    return OutputDir(runs[0] if runs else folders[1])
