"""What a training returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training."""

    history: Sequence[Mapping[str, float]]
    """The logged values of each epoch; `epoch` counts from 1."""
    best_epoch: int | None
    """The best epoch, by the choice of the model or of `early_stopping`."""
    best_value: float | None
    """The monitored value of that epoch."""
    network: keras.Model
    """The prediction network after the last epoch."""
    stopped_early: str | None = None
    """Why the training ended before its last epoch; None if it did not."""
