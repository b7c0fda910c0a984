"""Early-stopping settings."""

from __future__ import annotations

from typing import Annotated, Literal

from tfaip_like.params import Params
from tfaip_like.params._field_rules import Requires
from tfaip_like.settings._interval import require_interval

_NEEDS_EARLY_STOPPING = Requires("n_to_go", "requires --early_stopping.n_to_go")


class EarlyStopping(Params):
    """Early stopping, and the monitored value that defines the best epoch.

    Example:
        >>> EarlyStopping(n_to_go=5, monitor="val_loss", mode="min")
        EarlyStopping(n_to_go=5, monitor='val_loss', mode='min')
    """

    search_words = {
        "n_to_go": "patience",
        "frequency": "check_every",
        "start_from": "start_from_epoch",
        "lower_threshold": "baseline divergence_threshold",
        "upper_threshold": "stopping_threshold",
    }

    n_to_go: int | str = 0
    """Patience: number of consecutive checks without improvement before training stops (3), or the training since the
    last improvement (2epochs, 500steps, 30min); 0 disables early stopping."""

    frequency: Annotated[int | str | None, _NEEDS_EARLY_STOPPING] = None
    """Interval of the checks in epochs (2 or 2epochs), steps (500steps) or time (10min); by default each validation. A
    check passes if any value since the previous check improved."""

    start_from: Annotated[int | str, _NEEDS_EARLY_STOPPING] = 0
    """Number of first epochs (3 or 3epochs), steps (500steps) or minutes (10min) whose failed checks do not count."""

    lower_threshold: float | None = None
    """Lower bound of the monitored value. Mode max: count checks only after it is reached. Mode min: stop as soon as it
    is reached."""

    upper_threshold: float | None = None
    """Upper bound of the monitored value. Mode max: stop as soon as it is reached. Mode min: count checks only after it
    is reached."""

    monitor: str | None = None
    """Logged value to monitor (val_loss, lav_accuracy); also selects the best epoch. By default the model's choice."""

    mode: Literal["min", "max"] | None = None
    """Direction of improvement of the monitored value; by default the model's choice."""

    min_delta: Annotated[float, _NEEDS_EARLY_STOPPING] = 0.0
    """Minimum change of the monitored value since the last improvement that counts as an improvement. Does not affect
    which epoch is best."""

    def check(self) -> None:
        self.require_finite()
        require_interval(self, "n_to_go", "0 (never), 3 (checks)")
        require_interval(self, "start_from", "0, 3 (epochs)")
        if self.frequency is not None:
            require_interval(self, "frequency", "2 (epochs)")
            self.require(self.frequency != 0, "frequency", "must be at least 1 epoch")
        self.require(self.min_delta >= 0, "min_delta", "must be at least 0")
        self.require(
            self.monitor is None or self.mode is not None,
            "monitor",
            "requires --early_stopping.mode min or max",
        )
        lower, upper = self.lower_threshold, self.upper_threshold
        self.require(
            lower is None or upper is None or lower < upper, "lower_threshold", "must be below upper_threshold"
        )
