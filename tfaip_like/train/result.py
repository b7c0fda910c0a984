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
    """The best epoch by the model's own choice."""
    best_value: float | None
    """The monitored value of that epoch."""
    network: keras.Model
    """The prediction network after the last epoch."""
