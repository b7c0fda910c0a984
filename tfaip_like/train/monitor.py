"""Which epoch is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tfaip_like.errors import UsageError


@dataclass(frozen=True)
class Best:
    """The best value so far of the monitored number; immutable, `after` gives the next state."""

    monitor: str
    mode: Literal["min", "max"]
    value: float | None = None
    epoch: int | None = None

    def after(self, epoch: int, value: float) -> Best:
        """The state after an epoch with this value; itself if that was no improvement."""
        better = self.value is None or (value < self.value if self.mode == "min" else value > self.value)
        return replace(self, value=value, epoch=epoch) if better and not math.isnan(value) else self

    def value_in(self, row: Mapping[str, float], has_validation: bool) -> float | None:
        """The monitored number of an epoch; None if it was not validated.

        Without validation data at all, the same number of training stands in for `val_NAME`.

        Raises:
            UsageError: when nothing of this name is ever logged.
        """
        name = self.monitor if has_validation else self.monitor.removeprefix("val_")
        if name in row:
            return row[name]
        validated = any(logged.startswith("val_") for logged in row)
        if name.startswith("val_") and has_validation and not validated:
            return None
        raise UsageError(f"the model monitors {name!r} to find its best epoch, but logs only {', '.join(row)}")
