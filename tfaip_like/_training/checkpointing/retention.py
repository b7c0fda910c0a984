"""Which checkpoints of a run are kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tfaip_like.settings import Trainer


@dataclass(frozen=True)
class Retention:
    """Rules that say which checkpoints are kept; the fields are those of `Trainer`."""

    keep_checkpoints: int = 0
    keep_epochs: Collection[int] = ()
    keep_every_n: int = 0
    keep_best: int = 0

    @classmethod
    def from_trainer(cls, trainer: Trainer) -> Retention:
        """Return the rules of a run."""
        return cls(trainer.keep_checkpoints, trainer.keep_epochs, trainer.keep_every_n, trainer.keep_best)

    def is_permanent(self, epoch: int) -> bool:
        """Return whether the checkpoint after this epoch is never removed."""
        return epoch in self.keep_epochs or (self.keep_every_n > 0 and epoch % self.keep_every_n == 0)

    def max_count(self, epochs: int) -> int:
        """Return the maximum number of checkpoints on disk, the one that is being written included.

        Args:
            epochs: epochs of the training.
        """
        permanent = sum(self.is_permanent(epoch) for epoch in range(1, epochs + 1))
        return 1 + self.keep_checkpoints + self.keep_best + permanent
