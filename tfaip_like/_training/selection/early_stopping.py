"""When a training ends before its last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._utils.errors import pluralize
from tfaip_like.settings import EarlyStopping


class EarlyStopper:
    """Takes the monitored value of every epoch and says when the training is to end.

    Every `frequency` epochs a test asks whether one of them was an improvement: better, by more than
    `min_delta`, than the last improvement. `n_to_go` tests in a row without one end the training. A test
    without any value (nothing was validated) asks nothing.

    Args:
        settings: what ends it.
        monitor: the name of the value, for the reason.
        mode: whether small or large values are good.
    """

    def __init__(self, settings: EarlyStopping, monitor: str, mode: Literal["min", "max"]):
        self.settings = settings
        self.best = BestTracker(monitor, mode)
        self.last_improvement = BestTracker(monitor, mode)
        self.failed_tests = 0
        self.improved: bool | None = None
        """Whether an epoch since the last test was an improvement; None if none of them had a value."""

    def update(self, epoch: int, value: float | None) -> str | None:
        """Why the training ends after this epoch; None if it goes on.

        Args:
            epoch: counted from 1; each is told once, in order.
            value: the monitored value; None if it was not measured in this epoch.
        """
        if value is not None:
            self._update_best(epoch, value)
        tested = epoch % self.settings.frequency == 0 and self.improved is not None
        if tested:
            self._check_improvement()
        if value is not None and _has_reached(value, self._stop_threshold, self.best.mode):
            return f"{self.best.monitor} {value:.4g} has reached {self._stop_threshold:g}"
        if tested and 0 < self.settings.n_to_go <= self.failed_tests:
            return self._format_no_improvement()
        return None

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as JSON values."""
        return {
            "best": self.best.state(),
            "last_improvement": self.last_improvement.state(),
            "failed_tests": self.failed_tests,
            "improved": self.improved,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where another one was when it gave its `state`."""
        self.best = replace(self.best, **state["best"])
        self.last_improvement = replace(self.last_improvement, **state["last_improvement"])
        self.failed_tests = state["failed_tests"]
        self.improved = state["improved"]

    def _update_best(self, epoch: int, value: float) -> None:
        self.best = self.best.updated(epoch, value)
        before = self.last_improvement
        self.last_improvement = before.updated(epoch, value, self.settings.min_delta)
        self.improved = bool(self.improved) or self.last_improvement is not before

    def _check_improvement(self) -> None:
        if self.improved:
            self.failed_tests = 0
        elif self._start_threshold is None or (
            self.best.value is not None and _has_reached(self.best.value, self._start_threshold, self.best.mode)
        ):
            self.failed_tests += 1
        self.improved = None

    @property
    def _start_threshold(self) -> float | None:
        """The value from which on failed tests count."""
        return self.settings.lower_threshold if self.best.mode == "max" else self.settings.upper_threshold

    @property
    def _stop_threshold(self) -> float | None:
        """The value that is good enough to stop at once."""
        return self.settings.upper_threshold if self.best.mode == "max" else self.settings.lower_threshold

    def _format_no_improvement(self) -> str:
        by = f" by more than {self.settings.min_delta:g}" if self.settings.min_delta else ""
        best = f"best was epoch {self.best.epoch}" if self.best.epoch else "it was never a number"
        return f"no improvement of {self.best.monitor}{by} in {pluralize(self.failed_tests, 'test')}, {best}"


def _has_reached(value: float, threshold: float | None, mode: Literal["min", "max"]) -> bool:
    if threshold is None:
        return False
    return value >= threshold if mode == "max" else value <= threshold
