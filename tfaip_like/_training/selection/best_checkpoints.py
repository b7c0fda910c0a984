"""Checkpoints with the best monitored values (`--trainer.keep_best`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tfaip_like._training.checkpointing.checkpoints import Checkpoint, Position


@dataclass(frozen=True)
class RankedCheckpoint:
    """Checkpoint with its monitored value."""

    position: Position
    epoch: float
    """Epoch of its row in the history."""
    value: float


@dataclass(frozen=True)
class BestCheckpoints:
    """The checkpoints with the best monitored values, the best first; of equal values the earlier is better.

    Args:
        limit: number of checkpoints.
        mode: whether lower or higher values are better.
        ranking: the checkpoints.

    Example:
        >>> best = BestCheckpoints(2, "min")
        >>> for epoch, value in enumerate([0.5, 0.75, 0.25], 1):
        ...     best = best.updated(RankedCheckpoint(Position(epoch, 0), epoch, value))
        >>> [str(position) for position in best.positions]
        ['the end of epoch 3', 'the end of epoch 1']
    """

    limit: int
    mode: Literal["min", "max"]
    ranking: tuple[RankedCheckpoint, ...] = ()

    @property
    def positions(self) -> list[Position]:
        """Return the positions of the checkpoints, the best first."""
        return [ranked.position for ranked in self.ranking]

    def updated(self, new: RankedCheckpoint) -> BestCheckpoints:
        """Return the best checkpoints with another one, unless its value is worse or NaN."""
        sign = 1 if self.mode == "min" else -1
        others = [ranked for ranked in self.ranking if ranked.position != new.position]
        ranking = sorted(
            (ranked for ranked in (*others, new) if not math.isnan(ranked.value)),
            key=lambda ranked: (sign * ranked.value, ranked.position),
        )
        return replace(self, ranking=tuple(ranking[: self.limit]))

    def state(self) -> dict[str, float]:
        """Return the epoch of each checkpoint by its name, as JSON values; `restored` ranks them again."""
        return {ranked.position.dir_name: ranked.epoch for ranked in self.ranking}

    def restored(
        self,
        state: Mapping[str, float],
        checkpoints: Iterable[Checkpoint],
        history: Iterable[Mapping[str, float]],
        monitor: str,
        steps_per_epoch: int,
    ) -> BestCheckpoints:
        """Return the best of the checkpoints on disk, by their values in the history.

        Args:
            state: what `state` returned; names checkpoints of a time with other steps per epoch.
            checkpoints: checkpoints on disk.
            history: rows of the history.
            monitor: name of the value.
            steps_per_epoch: steps per epoch of the latest checkpoint.
        """
        values = {row["epoch"]: row[monitor] for row in history if monitor in row}
        best = self
        for checkpoint in checkpoints:
            position = checkpoint.position
            epoch = state.get(position.dir_name, (position.epoch * steps_per_epoch + position.step) / steps_per_epoch)
            is_evaluated = epoch in values and position.step != steps_per_epoch
            if is_evaluated:
                best = best.updated(RankedCheckpoint(position, epoch, values[epoch]))
        return best
