"""Learning-rate reduction on a plateau of the monitored value."""

from __future__ import annotations

import logging
from typing import Any, Literal

from tfaip_like._training.checkpointing.state_schema import PlateauState
from tfaip_like.schedules import ReduceOnPlateau

logger = logging.getLogger(__name__)


class PlateauController:
    """Reduction of the learning rate after `patience` validations without improvement.

    Args:
        schedule: factor, patience, cooldown and lower limit.
        mode: whether lower or higher values are better.
        optimizer: its variable `rate_factor` multiplies the learning rate.
    """

    def __init__(self, schedule: ReduceOnPlateau, mode: Literal["min", "max"], optimizer: Any):
        self.schedule = schedule
        self.sign = 1.0 if mode == "min" else -1.0
        self.optimizer = optimizer
        self.best = float("inf")
        self.waited = 0
        self.cooling = 0

    def update(self, value: float) -> None:
        """Record the monitored value of a validation, and reduce the learning rate if it is time."""
        value *= self.sign
        if value < self.best - self.schedule.min_delta:
            self.best, self.waited = value, 0
        elif self.cooling:
            self.cooling -= 1
        else:
            self.waited += 1
            if self.waited >= self.schedule.patience:
                self._reduce_lr()

    def _reduce_lr(self) -> None:
        lowest = self.schedule.min_lr / self.schedule.lr
        before = float(self.optimizer.rate_factor)
        factor = max(before * self.schedule.factor, lowest)
        self.waited, self.cooling = 0, self.schedule.cooldown
        if factor < before:
            self.optimizer.rate_factor.assign(factor)
            logger.info("plateau: reduced the learning rate to %.4g", factor * self.schedule.lr)

    def state(self) -> PlateauState:
        """Return the state for `restore`, with the factor, which a fresh optimizer loses."""
        return PlateauState(self.best, self.waited, self.cooling, factor=float(self.optimizer.rate_factor))

    def restore(self, state: PlateauState, reset_best: bool) -> None:
        """Restore a state that `state` returned.

        Args:
            state: state to restore.
            reset_best: drop the best value, because another metric is monitored now.
        """
        self.optimizer.rate_factor.assign(state.factor)
        self.cooling = state.cooling
        if not reset_best:
            self.best, self.waited = state.best, state.waited

    def reset(self) -> None:
        """Restore the full learning rate."""
        self.optimizer.rate_factor.assign(1.0)
