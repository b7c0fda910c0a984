"""Position of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from tfaip_like._training.checkpointing.checkpoints import Position


@dataclass(frozen=True)
class EpochResult:
    """Training metrics of an epoch."""

    epoch: int
    """Epoch, from 1."""
    values: dict[str, float]
    """Losses, metrics, and the gradient norm if it is measured."""
    seconds: float
    """Duration of the steps."""
    waited: float
    """Seconds spent waiting for data."""


@dataclass
class TrainState:
    """Position of a training run, and what is measured in the current epoch.

    Example:
        >>> state = TrainState(steps_per_epoch=10, epoch=2, step=4)
        >>> state.global_step, str(state.position)
        (24, 'step 4 of epoch 3')
    """

    steps_per_epoch: int
    epoch: int = 0
    """Completed epochs, validation included."""
    step: int = 0
    """Completed steps of the current epoch."""
    seconds: float = 0.0
    """Duration of these steps."""
    waited: float = 0.0
    """Seconds of it spent waiting for data."""
    epoch_result: EpochResult | None = None
    """Training metrics of the current epoch, once all its steps are complete; its validation is next."""

    @property
    def global_step(self) -> int:
        """Completed steps of the run."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def position(self) -> Position:
        """Completed epochs and steps."""
        return Position(self.epoch, self.step)

    def complete_steps(self, values: dict[str, float]) -> None:
        """Record the training metrics of an epoch whose steps are complete."""
        self.step = self.steps_per_epoch
        self.epoch_result = EpochResult(self.epoch + 1, values, self.seconds, self.waited)

    def complete_epoch(self) -> None:
        """Move on to the next epoch."""
        self.epoch, self.step, self.epoch_result = self.epoch + 1, 0, None
        self.seconds = self.waited = 0.0
