"""Early stopping."""

from __future__ import annotations

from typing import Literal

from tfaip_like._training.checkpointing.state_schema import EarlyStoppingState, ElapsedState
from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._utils.errors import pluralize
from tfaip_like.settings import EarlyStopping
from tfaip_like.settings._interval import Elapsed, parse_interval


class EarlyStopper:
    """Early stopping on a monitored value.

    Each evaluation, or those after each `frequency`, check whether a value since the last check improved on the last
    improvement by more than `min_delta`. `n_to_go` consecutive checks without improvement, or failed checks over an
    interval, stop the training. Checks without a value (no validation) are skipped.

    Args:
        settings: patience and thresholds.
        monitor: name of the value, for messages.
        mode: whether lower or higher values are better.

    Example:
        >>> from tfaip_like.settings import EarlyStopping
        >>> stopper = EarlyStopper(EarlyStopping(n_to_go=2), "val_loss", "min")
        >>> [stopper.update(Elapsed(epoch), value) for epoch, value in enumerate([1.0, 2.0, 2.0], 1)]
        [None, None, 'val_loss did not improve in 2 checks (best: epoch 1)']
    """

    def __init__(self, settings: EarlyStopping, monitor: str, mode: Literal["min", "max"]):
        self.settings = settings
        self.best = BestTracker(monitor, mode)
        self.last_improvement = BestTracker(monitor, mode)
        self.failed_tests = 0
        self.improved: bool | None = None
        """Whether an evaluation since the last check was an improvement; None if none of them had a value."""
        self.updated_at = Elapsed()
        """Place of the last evaluation."""
        self.waiting_since = Elapsed()
        """Place of the last improvement, or of the last check that did not count."""

    def update(self, elapsed: Elapsed, value: float | None) -> str | None:
        """Record an evaluation; return the reason to stop after it, or None to continue.

        Args:
            elapsed: completed part of the run.
            value: monitored value; None if it was not measured.
        """
        if value is not None:
            self._update_best(elapsed, value)
        is_check_due = self.improved is not None and self._is_check_time(elapsed)
        if is_check_due:
            self._check_improvement(elapsed)
        self.updated_at = elapsed
        if value is not None and _has_reached(value, self._stop_threshold, self.best.mode):
            return f"{self.best.monitor} {value:.4g} reached the stop threshold {self._stop_threshold:g}"
        if is_check_due and self.failed_tests and self._is_patience_over(elapsed):
            return self._format_no_improvement()
        return None

    def state(self) -> EarlyStoppingState:
        """Return the state for `restore`."""
        return EarlyStoppingState(
            best=self.best.state(),
            last_improvement=self.last_improvement.state(),
            failed_tests=self.failed_tests,
            improved=self.improved,
            updated_at=self._save_elapsed(self.updated_at),
            waiting_since=self._save_elapsed(self.waiting_since),
        )

    def _save_elapsed(self, elapsed: Elapsed) -> ElapsedState:
        """Return an elapsed part without its seconds unless they are used, since they differ between equal runs."""
        settings = self.settings
        times = (settings.n_to_go, settings.start_from, settings.frequency or 0)
        uses_time = any(parse_interval(value).seconds for value in times)
        return ElapsedState(elapsed.epochs, elapsed.steps, elapsed.seconds if uses_time else None)

    def restore(self, state: EarlyStoppingState, now: Elapsed) -> None:
        """Restore a state.

        Args:
            state: what `state` returned.
            now: completed part of the run, whose seconds replace missing ones.
        """
        self.best = self.best.restored(state.best)
        self.last_improvement = self.last_improvement.restored(state.last_improvement)
        self.failed_tests = state.failed_tests
        self.improved = state.improved
        self.updated_at, self.waiting_since = (
            Elapsed(saved.epochs, saved.steps, now.seconds if saved.seconds is None else saved.seconds)
            for saved in (state.updated_at, state.waiting_since)
        )

    def _update_best(self, elapsed: Elapsed, value: float) -> None:
        self.best = self.best.updated(elapsed, value)
        before = self.last_improvement
        self.last_improvement = before.updated(elapsed, value, self.settings.min_delta)
        if self.last_improvement is not before:
            self.improved, self.waiting_since = True, elapsed
        self.improved = bool(self.improved)

    def _is_check_time(self, elapsed: Elapsed) -> bool:
        frequency = self.settings.frequency
        return frequency is None or parse_interval(frequency).is_passed(self.updated_at, elapsed)

    def _check_improvement(self, elapsed: Elapsed) -> None:
        if self.improved:
            self.failed_tests = 0
        elif self._is_counting(elapsed):
            self.failed_tests += 1
        else:
            self.waiting_since = elapsed
        self.improved = None

    def _is_counting(self, elapsed: Elapsed) -> bool:
        """Return whether failed checks count: after `start_from`, and once the start threshold was reached."""
        start, threshold = parse_interval(self.settings.start_from), self._start_threshold
        has_reached = self.best.value is not None and _has_reached(self.best.value, threshold, self.best.mode)
        return (not start or start.count(elapsed) > 1) and (threshold is None or has_reached)

    def _is_patience_over(self, elapsed: Elapsed) -> bool:
        patience = self.settings.n_to_go
        if isinstance(patience, int):
            return 0 < patience <= self.failed_tests
        # The difference of two fractions of epochs may be inexact.
        return parse_interval(patience).count(elapsed - self.waiting_since) > 1 - 1e-9

    @property
    def _start_threshold(self) -> float | None:
        """Value from which on failed checks count."""
        return self.settings.lower_threshold if self.best.mode == "max" else self.settings.upper_threshold

    @property
    def _stop_threshold(self) -> float | None:
        """Value that stops the training as soon as it is reached."""
        return self.settings.upper_threshold if self.best.mode == "max" else self.settings.lower_threshold

    def _format_no_improvement(self) -> str:
        patience = self.settings.n_to_go
        period = pluralize(self.failed_tests, "check") if isinstance(patience, int) else str(parse_interval(patience))
        by = f" by more than {self.settings.min_delta:g}" if self.settings.min_delta else ""
        best = f"best: {self.best.place}" if self.best.place else "it was always NaN"
        return f"{self.best.monitor} did not improve{by} in {period} ({best})"


def _has_reached(value: float, threshold: float | None, mode: Literal["min", "max"]) -> bool:
    if threshold is None:
        return False
    return value >= threshold if mode == "max" else value <= threshold
