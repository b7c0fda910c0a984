"""Training: `train(scenario)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfaip_like._training.devices import choose_devices
from tfaip_like._utils.console import console_unless_configured
from tfaip_like._utils.lazy_keras import choose_backend
from tfaip_like.params._given import NOTHING_GIVEN, Given, warn_of_no_effect
from tfaip_like.params._tree import check_tree

if TYPE_CHECKING:
    from tfaip_like._training.result import TrainResult
    from tfaip_like.scenario import Scenario
    from tfaip_like.settings import Resume


def train(scenario: Scenario, resume: Resume | None = None, given: Given | None = None) -> TrainResult:
    """Trains a scenario and leaves everything about it in its output folder.

    Args:
        resume: go on with the run in that folder; a new one is begun without it.
        given: the values that were given by flag: one that has no effect is an error. Without it, values that have none
            are warned of.

    Raises:
        UsageError: for parameters, data or a model that do not fit together.
        TrainingError: when the loss is no longer a finite number.
        Interrupted: after Ctrl-C.
    """
    checked = check_tree(scenario)
    choose_backend(checked.device.backend)
    devices = choose_devices(checked.device)
    # Only now: the import of Keras fixes its backend.
    from tfaip_like._training.training import run_training

    with console_unless_configured():
        if given is None:
            warn_of_no_effect(checked)
        return run_training(checked, devices, resume, given or NOTHING_GIVEN)


__all__ = ["train"]
