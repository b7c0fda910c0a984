"""Early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._utils.errors import pluralize
from tfaip_like.settings import EarlyStopping


class EarlyStopper:
    """Early stopping on a monitored value.

    Every `frequency` epochs it checks whether one of them improved on the last improvement by more than `min_delta`.
    `n_to_go` consecutive checks without improvement stop the training. Checks without a value (no validation) are
    skipped.

    Args:
        settings: patience and thresholds.
        monitor: name of the value, for messages.
        mode: whether lower or higher values are better.

    Example:
        >>> from tfaip_like.settings import EarlyStopping
        >>> stopper = EarlyStopper(EarlyStopping(n_to_go=2), "val_loss", "min")
        >>> [stopper.update(epoch, value) for epoch, value in enumerate([1.0, 2.0, 2.0], 1)]
        [None, None, 'val_loss did not improve in 2 checks (best: epoch 1)']
    """

    def __init__(self, settings: EarlyStopping, monitor: str, mode: Literal["min", "max"]):
        self.settings = settings
        self.best = BestTracker(monitor, mode)
        self.last_improvement = BestTracker(monitor, mode)
        self.failed_tests = 0
        self.improved: bool | None = None
        """Whether an epoch since the last check was an improvement; None if none of them had a value."""

    def update(self, epoch: int, value: float | None) -> str | None:
        """Record an epoch; return the reason to stop after it, or None to continue.

        Args:
            epoch: from 1; call once per epoch, in order.
            value: monitored value; None if it was not measured in this epoch.
        """
        if value is not None:
            self._update_best(epoch, value)
        is_check_due = epoch % self.settings.frequency == 0 and self.improved is not None
        if is_check_due:
            self._check_improvement()
        if value is not None and _has_reached(value, self._stop_threshold, self.best.mode):
            return f"{self.best.monitor} {value:.4g} reached the stop threshold {self._stop_threshold:g}"
        if is_check_due and 0 < self.settings.n_to_go <= self.failed_tests:
            return self._format_no_improvement()
        return None

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`, as JSON values."""
        return {
            "best": self.best.state(),
            "last_improvement": self.last_improvement.state(),
            "failed_tests": self.failed_tests,
            "improved": self.improved,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state` returned."""
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
        """Value from which on failed checks count."""
        return self.settings.lower_threshold if self.best.mode == "max" else self.settings.upper_threshold

    @property
    def _stop_threshold(self) -> float | None:
        """Value that stops the training as soon as it is reached."""
        return self.settings.upper_threshold if self.best.mode == "max" else self.settings.lower_threshold

    def _format_no_improvement(self) -> str:
        by = f" by more than {self.settings.min_delta:g}" if self.settings.min_delta else ""
        best = f"best: epoch {self.best.epoch}" if self.best.epoch else "it was always NaN"
        return f"{self.best.monitor} did not improve{by} in {pluralize(self.failed_tests, 'check')} ({best})"


def _has_reached(value: float, threshold: float | None, mode: Literal["min", "max"]) -> bool:
    if threshold is None:
        return False
    return value >= threshold if mode == "max" else value <= threshold
