"""When a training ends before its last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tfaip_like.params import Params


class EarlyStopping(Params):
    """When a training ends before its last epoch, and which value says how good an epoch is."""

    n_to_go: int = 0
    """Stop after so many tests in a row without an improvement; 0 never does."""

    frequency: int = 1
    """Epochs between two tests. A test asks whether any epoch since the one before has been an improvement."""

    lower_threshold: float | None = None
    """With mode max: tests count only once the value has reached this. With mode min: stop at once when
    the value is this or less."""

    upper_threshold: float | None = None
    """With mode max: stop at once when the value is this or more. With mode min: tests count only once
    the value has reached this or less."""

    monitor: str | None = None
    """The logged value that says how good an epoch is (val_loss, lav_accuracy), for the best epoch too; by
    default the choice of the model."""

    mode: Literal["min", "max"] | None = None
    """Whether small or large values are good; by default the choice of the model."""

    min_delta: float = 0.0
    """Only a change by more than this, since the last improvement, counts as an improvement. What the best
    epoch is does not depend on it."""

    def ignored_params(self) -> Mapping[str, str]:
        if self.n_to_go:
            return {}
        never = "nothing is tested without --early_stopping.n_to_go"
        return dict.fromkeys(("frequency", "min_delta"), never)

    def check(self) -> None:
        self.require_finite()
        self.require(self.n_to_go >= 0, "n_to_go", "must be 0 (never) or more")
        self.require(self.frequency >= 1, "frequency", "there must be at least 1 epoch between two tests")
        self.require(self.min_delta >= 0, "min_delta", "must be 0 or more")
        self.require(
            self.monitor is None or self.mode is not None,
            "monitor",
            "needs --early_stopping.mode: is small or large good?",
        )
        lower, upper = self.lower_threshold, self.upper_threshold
        self.require(
            lower is None or upper is None or lower < upper, "lower_threshold", "must be below upper_threshold"
        )
