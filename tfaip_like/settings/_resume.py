"""What `resume-training` goes on with."""

from __future__ import annotations

from typing import Literal

from tfaip_like.params import Params


class Resume(Params):
    """From where a run goes on, and which parts of its state begin anew."""

    epoch: int | None = None
    """Go on from the end of this epoch, whose checkpoint must have been kept (--trainer.keep_epochs). By
    default from the last complete checkpoint. Later checkpoints are moved to checkpoints/superseded
    (superseded_2 and so on, where there is one)."""

    optimizer: Literal["keep", "fresh"] = "keep"
    """Whether the optimizer keeps its state (momentum, averages) or begins anew with the weights as they are."""

    learning_rate: Literal["keep", "fresh"] = "keep"
    """Whether the schedule goes on, or begins anew and spans the epochs that are left."""

    early_stopping: Literal["keep", "fresh"] = "keep"
    """Whether the best value and the tests without improvement are kept, or counted anew."""

    def check(self) -> None:
        self.require(self.epoch is None or self.epoch >= 1, "epoch", "epochs count from 1")
