"""Best epoch so far, by the monitored metric."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS
from tfaip_like._runs.run_files import as_row_epoch, format_row_place
from tfaip_like._training.checkpointing.state_schema import BestValue
from tfaip_like._user_code.code_errors import CodeError, Frame, attribute_frame
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._model import Model
from tfaip_like.settings import EarlyStopping
from tfaip_like.settings._interval import Elapsed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestTracker:
    """Best value so far of the monitored metric, and its epoch.

    Example:
        >>> best = BestTracker("val_accuracy", "max")
        >>> for epoch, value in enumerate([0.5, 0.75, 0.25], 1):
        ...     best = best.updated(Elapsed(epoch, steps=10 * epoch), value)
        >>> best.epoch, best.step, best.value
        (2, 20, 0.75)
    """

    monitor: str
    """Logged name of the metric."""
    mode: Literal["min", "max"]
    value: float | None = None
    epoch: float | None = None
    """Completed epochs at that time; a fraction within an epoch."""
    step: int | None = None
    """Completed steps of the run at that time."""
    is_from_flag: bool = False
    """Whether `monitor` was set by --early_stopping.monitor rather than by the model."""
    source_frame: Frame | None = field(default=None, compare=False)
    """Source line of the model's `best`, for errors."""

    @property
    def place(self) -> str:
        """Epoch of the best value, and the step if it is within an epoch; empty without a value."""
        return "" if self.epoch is None else format_row_place({"epoch": self.epoch, "step": self.step or 0})

    def updated(self, elapsed: Elapsed, value: float, min_delta: float = 0.0) -> BestTracker:
        """Return the state after an evaluation; `self` unless `value` improves by more than `min_delta`."""
        better = self.value is None or (
            value < self.value - min_delta if self.mode == "min" else value > self.value + min_delta
        )
        if math.isnan(value) or not better:
            return self
        return replace(self, value=value, epoch=as_row_epoch(elapsed.epochs), step=elapsed.steps)

    def state(self) -> BestValue:
        """Return the state for `restored`."""
        return BestValue(self.value, self.epoch, self.step)

    def restored(self, state: BestValue) -> BestTracker:
        """Return the tracker with a state that `state` returned."""
        return replace(self, value=state.value, epoch=state.epoch, step=state.step)

    def check_monitor_exists(
        self,
        measured: Iterable[str],
        has_validation: bool,
        has_evaluator: bool,
        lavs: Iterable[str],
        has_lav_evaluator: bool,
    ) -> None:
        """Check before training that the monitored metric can be logged.

        The names of evaluator metrics are known only after the first validation; see `get_value`.

        Args:
            measured: losses and metrics of training.
            has_validation: whether there is validation data.
            has_evaluator: whether validation runs an evaluator.
            lavs: names of the load-and-validate sources.
            has_lav_evaluator: whether load-and-validate runs an evaluator.

        Raises:
            UsageError: if no metric of this name will be logged.
        """
        logged = [*measured, *(f"val_{name}" for name in measured if has_validation)]
        prefixes = [f"lav_{lav}_" if lav else "lav_" for lav in lavs]
        logged += [f"{prefix}{name}" for prefix in prefixes for name in measured]
        judged = [*(prefixes if has_lav_evaluator else []), *(["val_"] if has_evaluator else [])]
        if self.monitor not in logged and not self.monitor.startswith(tuple(judged)):
            raise self._unknown_monitor_error(logged)

    def get_value(self, row: Mapping[str, float]) -> float | None:
        """Return the monitored value of a row; None if it has none, because it was not validated.

        Raises:
            UsageError: if no metric of this name is logged.
        """
        if self.monitor in row:
            return row[self.monitor]
        for prefix in ("val_", "lav_"):
            was_measured = any(logged.startswith(prefix) for logged in row)
            if self.monitor.startswith(prefix) and not was_measured:
                return None
        raise self._unknown_monitor_error(row)

    def _unknown_monitor_error(self, logged: Iterable[str]) -> UsageError:
        available = f"available: {', '.join(name for name in logged if name not in BOOKKEEPING_COLUMNS)}"
        if self.is_from_flag:
            return UsageError(f"--early_stopping.monitor {self.monitor}: unknown metric; {available}")
        return CodeError(f"Model.best refers to the unknown metric {self.monitor!r}; {available}", self.source_frame)


def make_best_tracker(
    settings: EarlyStopping, model: type[Model], measured: Iterable[str], has_validation: bool
) -> BestTracker:
    """Return the tracker of the best epoch, with no epoch recorded yet.

    Without validation the training value of the same metric replaces a `val_` metric, or else the loss.

    Args:
        settings: its `monitor` and `mode` take precedence over those of the model.
        model: class whose `best` is the default, such as ("val_accuracy", "max").
        measured: losses and metrics of training.
        has_validation: whether there is validation data.

    Raises:
        UsageError: if mode or thresholds are set for a metric that the loss replaces.
    """
    (monitor, mode), source_frame = model.best, attribute_frame(model, "best")
    if settings.monitor is not None:
        return BestTracker(settings.monitor, settings.mode or mode, is_from_flag=True)
    if has_validation or not monitor.startswith("val_"):
        return BestTracker(monitor, settings.mode or mode, source_frame=source_frame)
    if (training_metric := monitor.removeprefix("val_")) in measured:
        return BestTracker(training_metric, settings.mode or mode)
    for name in ("mode", "lower_threshold", "upper_threshold"):
        if getattr(settings, name) is not None:
            raise UsageError(
                f"--early_stopping.{name}: {monitor} is not measured without validation; "
                "choose another metric with --early_stopping.monitor"
            )
    logger.info("no validation data: the best epoch is the one with the lowest training loss")
    return BestTracker("loss", "min")
