"""Position of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like.modeling._context import TrainingPosition
from tfaip_like.settings._interval import Elapsed


@dataclass
class TrainState:
    """Position of a training run, and what is measured since the last row of its history.

    An evaluation (validations, selection of the best, a row of the history) ends each epoch, and also follows the steps
    within an epoch after which a validation is due.

    Example:
        >>> state = TrainState(steps_per_epoch=10, epoch=2, step=4)
        >>> state.global_step, str(state.position), state.elapsed.epochs
        (24, 'step 4 of epoch 3', 2.4)
    """

    steps_per_epoch: int
    epoch: int = 0
    """Completed epochs, their evaluation included."""
    step: int = 0
    """Completed steps of the current epoch."""
    seconds: float = 0.0
    """Duration of all completed steps of the run."""
    evaluated_step: int = 0
    """Step of the current epoch at its last evaluation; 0 before the first."""
    evaluated_seconds: float = 0.0
    """Value of `seconds` at the last evaluation."""
    waited: float = 0.0
    """Seconds spent waiting for data since the last evaluation."""
    metrics: dict[str, float] | None = None
    """Training metrics of the epoch so far if an evaluation is next; None while steps are next."""

    @property
    def global_step(self) -> int:
        """Return the completed steps of the run."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def position(self) -> Position:
        """Return the completed epochs and steps."""
        return Position(self.epoch, self.step)

    @property
    def position_after_evaluation(self) -> Position:
        """Return the position once the evaluation that is next is complete."""
        return Position(self.epoch + 1, 0) if self.is_epoch_complete else self.position

    def training_position(self) -> TrainingPosition:
        """Return what `context` shows outside of compiled steps."""
        return TrainingPosition.of_step(self.global_step, self.steps_per_epoch)

    @property
    def is_epoch_complete(self) -> bool:
        """Return whether all steps of the current epoch are complete; its evaluation is next."""
        return self.step == self.steps_per_epoch

    @property
    def elapsed(self) -> Elapsed:
        """Return the completed part of the run."""
        return self._elapsed_at(self.step, self.seconds)

    @property
    def evaluated(self) -> Elapsed:
        """Return the completed part of the run at its last evaluation."""
        return self._elapsed_at(self.evaluated_step, self.evaluated_seconds)

    def _elapsed_at(self, step: int, seconds: float) -> Elapsed:
        steps = self.epoch * self.steps_per_epoch + step
        return Elapsed(steps / self.steps_per_epoch, steps, seconds)

    def is_at(self, other: TrainState) -> bool:
        """Return whether another state is at the same place: after the same steps and the same evaluations."""
        return self._place == other._place

    @property
    def _place(self) -> tuple[int, int, int, bool]:
        return self.epoch, self.step, self.evaluated_step, self.metrics is not None

    def complete_evaluation(self) -> None:
        """Move on after an evaluation: to the next steps, or to the next epoch."""
        self.metrics, self.waited, self.evaluated_seconds = None, 0.0, self.seconds
        if self.is_epoch_complete:
            self.epoch, self.step, self.evaluated_step = self.epoch + 1, 0, 0
        else:
            self.evaluated_step = self.step
