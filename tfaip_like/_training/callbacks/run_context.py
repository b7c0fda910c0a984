"""What callbacks see of a training."""

from __future__ import annotations

import logging
from pathlib import Path

import keras

from tfaip_like._runs.temporary_runs import is_temporary_run
from tfaip_like._training.steps.example_checks import RESERVED_NAMES, RESERVED_PREFIXES
from tfaip_like._training.steps.train_step import TrainStep
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.train_state import TrainState
from tfaip_like._utils.errors import UsageError
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


class TrainingContext:
    """View of a running training; see `tfaip_like.callbacks.RunContext`.

    Args:
        scenario: scenario of the run.
        output_dir: run directory; None if nothing is saved.
        model: training model.
        state: position of the run.
        step: training step, which may hold the current values of the variables.
    """

    # Setting another attribute, such as Keras' `stop_training`, is an error.
    __slots__ = ("_model", "_output_dir", "_scenario", "_state", "logged", "stop_reason", "train_step")

    def __init__(
        self, scenario: Scenario, output_dir: Path | None, model: TrainingModel, state: TrainState, step: TrainStep
    ):
        self._scenario = scenario
        self._output_dir = output_dir
        self._model = model
        self._state = state
        self.train_step = step
        self.logged: dict[str, float] = {}
        """Values that callbacks have logged in the current epoch."""
        self.stop_reason: str | None = None
        """Reason that a callback gave for ending the training."""

    @property
    def scenario(self) -> Scenario:
        """Return the scenario that is trained."""
        return self._scenario

    @property
    def output_dir(self) -> Path | None:
        """Return the run directory; None if nothing is saved."""
        return self._output_dir

    @property
    def epoch(self) -> int:
        """Return the current epoch, from 1."""
        return self._state.epoch + 1

    @property
    def step(self) -> int:
        """Return the completed steps of the run."""
        return self._state.global_step

    @property
    def steps_per_epoch(self) -> int:
        """Return the steps of an epoch."""
        return self._state.steps_per_epoch

    @property
    def network(self) -> keras.Model:
        """Return the network with its current weights."""
        self.train_step.sync_to_model()
        return self._model.network

    @property
    def training_model(self) -> keras.Model:
        """Return the model that Keras callbacks see, with its optimizer."""
        self.train_step.sync_to_model()
        return self._model

    @property
    def is_temporary(self) -> bool:
        """Return whether the results are discarded."""
        return is_temporary_run()

    def log(self, name: str, value: float) -> None:
        """Add a value to the metrics of the current epoch."""
        if name in (*RESERVED_NAMES, *self._model.loss_trackers, *self._model.metric_names):
            raise UsageError(f"log: {name!r} is logged by the trainer; choose another name")
        if name.startswith(RESERVED_PREFIXES):
            prefixes = ", ".join(RESERVED_PREFIXES)
            raise UsageError(f"log: {name!r}: names that begin with {prefixes} are reserved; choose another name")
        self.logged[name] = float(value)

    def request_stop(self, reason: str) -> None:
        """End training after the current epoch."""
        if self.stop_reason is None:
            logger.info("stopping after epoch %d: %s", self.epoch, reason)
            self.stop_reason = reason
