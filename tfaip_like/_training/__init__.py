"""Training: `train(scenario)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfaip_like._training.devices import configure_devices
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.lazy_keras import set_backend
from tfaip_like.params._ignored_flags import NO_EXPLICIT_FLAGS, ExplicitFlags, warn_ignored_params
from tfaip_like.params._tree import validate_params

if TYPE_CHECKING:
    from tfaip_like._training.result import TrainResult
    from tfaip_like.scenario import Scenario
    from tfaip_like.settings import Resume


def train(scenario: Scenario, resume: Resume | None = None, given: ExplicitFlags | None = None) -> TrainResult:
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
    checked = validate_params(scenario)
    set_backend(checked.device.backend)
    devices = configure_devices(checked.device)
    # Only now: the import of Keras fixes its backend.
    from tfaip_like._training.training import run_training

    with default_console_logging():
        if given is None:
            warn_ignored_params(checked)
        return run_training(checked, devices, resume, given or NO_EXPLICIT_FLAGS)


__all__ = ["train"]
