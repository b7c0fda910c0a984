"""Which epoch is the best."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS
from tfaip_like._user_code.code_errors import CodeError, Frame, attribute_frame
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._model import Model
from tfaip_like.settings import EarlyStopping

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestTracker:
    """The best value so far of the monitored number; immutable, `after` gives the next state."""

    monitor: str
    """The number that is compared, by the name under which it is logged."""
    mode: Literal["min", "max"]
    value: float | None = None
    epoch: int | None = None
    is_from_flag: bool = False
    """Whether the monitor is that of --early_stopping.monitor, not the model's choice."""
    source_frame: Frame | None = field(default=None, compare=False)
    """Where an author wrote the model's choice."""

    def updated(self, epoch: int, value: float, min_delta: float = 0.0) -> BestTracker:
        """The state after an epoch with this value; itself if that was no improvement by more than `min_delta`."""
        better = self.value is None or (
            value < self.value - min_delta if self.mode == "min" else value > self.value + min_delta
        )
        return replace(self, value=value, epoch=epoch) if better and not math.isnan(value) else self

    def state(self) -> dict[str, Any]:
        """What changes, as JSON values; `dataclasses.replace` puts it back."""
        return {"value": self.value, "epoch": self.epoch}

    def check_monitor_exists(
        self,
        measured: Iterable[str],
        has_validation: bool,
        has_evaluator: bool,
        lavs: Iterable[str],
        has_lav_evaluator: bool,
    ) -> None:
        """Raises `UsageError` at the start of a training if the monitored number will never be there.

        What an evaluator returns is known only after the first validation; see `get_value`.
        """
        logged = [*measured, *(f"val_{name}" for name in measured if has_validation)]
        prefixes = [f"lav_{lav}_" if lav else "lav_" for lav in lavs]
        logged += [f"{prefix}{name}" for prefix in prefixes for name in measured]
        judged = [*(prefixes if has_lav_evaluator else []), *(["val_"] if has_evaluator else [])]
        if self.monitor not in logged and not self.monitor.startswith(tuple(judged)):
            raise self._unknown_monitor_error(logged)

    def get_value(self, row: Mapping[str, float]) -> float | None:
        """The monitored number of an epoch; None if it was not validated.

        Raises:
            UsageError: when nothing of this name is ever logged.
        """
        if self.monitor in row:
            return row[self.monitor]
        for prefix in ("val_", "lav_"):
            was_measured = any(logged.startswith(prefix) for logged in row)
            if self.monitor.startswith(prefix) and not was_measured:
                return None
        raise self._unknown_monitor_error(row)

    def _unknown_monitor_error(self, logged: Iterable[str]) -> UsageError:
        only = f"only {', '.join(name for name in logged if name not in BOOKKEEPING_COLUMNS)} are measured"
        if self.is_from_flag:
            return UsageError(f"--early_stopping.monitor {self.monitor}: {only}")
        return CodeError(f"the model finds its best epoch by {self.monitor!r}, but {only}", self.source_frame)


def make_best_tracker(
    settings: EarlyStopping, model: type[Model], measured: Iterable[str], has_validation: bool
) -> BestTracker:
    """What the best epoch is found by: the flags' choice, else that of the model.

    Without validation the same number of training stands in for the model's choice, or else the loss.

    Args:
        settings: `monitor` and `mode`, where given, replace those of the model.
        model: the class whose `best` is the model's choice, such as ("val_accuracy", "max").
        measured: names of the losses and metrics of training.
        has_validation: whether anything is validated.

    Raises:
        UsageError: when thresholds were given for a number that the loss stands in for.
    """
    (monitor, mode), source_frame = model.best, attribute_frame(model, "best")
    if settings.monitor is not None:
        return BestTracker(settings.monitor, settings.mode or mode, is_from_flag=True)
    if has_validation or not monitor.startswith("val_"):
        return BestTracker(monitor, settings.mode or mode, source_frame=source_frame)
    if (of_training := monitor.removeprefix("val_")) in measured:
        return BestTracker(of_training, settings.mode or mode)
    for name in ("mode", "lower_threshold", "upper_threshold"):
        if getattr(settings, name) is not None:
            raise UsageError(
                f"--early_stopping.{name}: is for {monitor}, which is not measured without validation; "
                "name another --early_stopping.monitor"
            )
    logger.info("without validation the best epoch is the one with the smallest loss")
    return BestTracker("loss", "min")
