"""Training of a scenario: `train(scenario)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._training.devices import configure_devices
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.lazy_keras import set_backend
from tfaip_like.callbacks import Callback
from tfaip_like.loggers import Logger
from tfaip_like.params._ignored_flags import NO_EXPLICIT_FLAGS, ExplicitFlags, warn_ignored_params
from tfaip_like.params._python_names import errors_name_arguments
from tfaip_like.params._tree import validate_params
from tfaip_like.settings import Resume

if TYPE_CHECKING:
    import keras

    from tfaip_like._training.result import TrainResult
    from tfaip_like.scenario import Scenario

__all__ = ["train", "train_with_flags"]


def train(
    scenario: Scenario,
    resume: Resume | None = None,
    callbacks: Sequence[Callback | keras.callbacks.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> TrainResult:
    """Train a scenario and write its results to `trainer.output_dir`.

    Args:
        scenario: the model, the data and all settings.
        resume: how to continue the run in the output directory; None starts a new run.
        callbacks: callbacks of this package or of Keras, in addition to those of the scenario.
        loggers: loggers, in addition to those of the scenario.

    Returns:
        The history, the best epoch and the trained network.

    Raises:
        UsageError: if parameters, data or the model are invalid or do not fit together.
        TrainingError: if the loss or a gradient becomes non-finite.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.

    Example:
        >>> result = train(Digits(trainer=Trainer(epochs=3)))  # doctest: +SKIP
        >>> result.history[-1]["val_accuracy"]  # doctest: +SKIP
        0.97
    """
    with default_console_logging(), errors_name_arguments(scenario, resume=resume or Resume()):
        own = [callback for callback in callbacks if isinstance(callback, Callback)]
        others = [callback for callback in callbacks if not isinstance(callback, Callback)]
        chosen = dataclasses.replace(
            scenario, callbacks=[*scenario.callbacks, *own], loggers=[*scenario.loggers, *loggers]
        )
        checked = validate_params(chosen)
        warn_ignored_params(checked)
        return _train(checked, resume, NO_EXPLICIT_FLAGS, others)


def train_with_flags(scenario: Scenario, resume: Resume | None, explicit_flags: ExplicitFlags) -> TrainResult:
    """Train a scenario from the command line: a flag without effect is an error, and errors name flags.

    Args:
        scenario: the model, the data and all settings.
        resume: how to continue the run in the output directory; None starts a new run.
        explicit_flags: the values given by flag.

    Raises:
        UsageError: as in `train`; also for a flag that has no effect.
    """
    with default_console_logging():
        return _train(validate_params(scenario), resume, explicit_flags)


def _train(
    scenario: Scenario,
    resume: Resume | None,
    explicit_flags: ExplicitFlags,
    keras_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainResult:
    set_backend(scenario.device.backend)
    devices = configure_devices(scenario.device)
    # Imported late, because importing Keras fixes its backend.
    from tfaip_like._training.live_curve import LiveCurve, can_draw_curves
    from tfaip_like._training.training import run_training

    if can_draw_curves():
        output_dir = scenario.trainer.output_dir
        history = Run(OutputDir(output_dir)).history if resume is not None and output_dir is not None else []
        keras_callbacks = [*keras_callbacks, LiveCurve(history)]
    return run_training(scenario, devices, resume, explicit_flags, keras_callbacks=keras_callbacks)
