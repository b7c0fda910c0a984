"""Settings of `resume-training`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tfaip_like.params import Params


class Resume(Params):
    """Checkpoint to resume from, and the parts of its state to reset.

    Example:
        >>> Resume(epoch=12, optimizer="fresh")
        Resume(epoch=12, optimizer='fresh')
    """

    epoch: int | None = None
    """Epoch whose checkpoint to resume from; it must have been kept (--trainer.keep_epochs). By default the last
    checkpoint. Later checkpoints move to checkpoints/superseded (superseded_2, ... if that exists)."""

    checkpoint: Path | None = None
    """Name of the checkpoint to resume from, also one within an epoch: epoch_0002_step_00345. Later checkpoints move as
    with epoch."""

    optimizer: Literal["keep", "fresh"] = "keep"
    """Restore the optimizer state (momentum, averages), or reset it; the weights are restored in both cases."""

    learning_rate: Literal["keep", "fresh"] = "keep"
    """Continue the learning-rate schedule, or restart it over the remaining epochs."""

    early_stopping: Literal["keep", "fresh"] = "keep"
    """Restore the best value and the count of checks without improvement, or reset both."""

    @property
    def is_rewind(self) -> bool:
        """Return whether another checkpoint than the last one is chosen."""
        return self.epoch is not None or self.checkpoint is not None

    def check(self) -> None:
        self.require(self.epoch is None or self.epoch >= 1, "epoch", "must be at least 1")
        is_single = self.epoch is None or self.checkpoint is None
        self.require(is_single, "checkpoint", "cannot be combined with --resume.epoch")
