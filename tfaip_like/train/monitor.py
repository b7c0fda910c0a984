"""Which epoch is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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

    def check_is_logged(
        self, measured: Iterable[str], has_validation: bool, has_evaluator: bool, lavs: Iterable[str]
    ) -> None:
        """Raises `UsageError` at the start of a training if the monitored number will never be there.

        What an evaluator returns is known only after the first validation; see `value_in`.
        """
        logged = [*measured, *(f"val_{name}" for name in measured if has_validation)]
        prefixes = [f"lav_{lav}_" if lav else "lav_" for lav in lavs]
        logged += [f"{prefix}{name}" for prefix in prefixes for name in measured]
        judged = [*prefixes, *(["val_"] if has_validation else [])] if has_evaluator else []
        name = self.name(has_validation)
        if name not in logged and not name.startswith(tuple(judged)):
            raise UsageError(f"the model finds its best epoch by {name!r}, but only {', '.join(logged)} are measured")

    def name(self, has_validation: bool) -> str:
        """The number that is compared; without validation data, training stands in for `val_NAME`."""
        return self.monitor if has_validation else self.monitor.removeprefix("val_")

    def value_in(self, row: Mapping[str, float], has_validation: bool) -> float | None:
        """The monitored number of an epoch; None if it was not validated.

        Raises:
            UsageError: when nothing of this name is ever logged.
        """
        name = self.name(has_validation)
        if name in row:
            return row[name]
        for prefix in ("val_", "lav_"):
            was_measured = any(logged.startswith(prefix) for logged in row)
            if name.startswith(prefix) and not was_measured:
                return None
        raise UsageError(f"the model finds its best epoch by {name!r}, but only {', '.join(row)} are measured")
