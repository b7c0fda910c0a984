"""Intervals in epochs, steps or time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Interval in epochs, steps or seconds; exactly one of the fields is positive.

    Example:
        >>> parse_interval("500steps")
        Interval(epochs=0, steps=500, seconds=0.0)
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0


_INTERVAL = re.compile(r"(\d*\.?\d*)\s*(epoch|epochs|step|steps|s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parse_interval(text: str) -> Interval:
    """Parse an interval, such as `epoch`, `500steps` or `10min`.

    Raises:
        ValueError: if `text` is not an interval, or a fraction of epochs or steps.
    """
    match = _INTERVAL.fullmatch(text.strip())
    count = float(match[1] or 1) if match and match[1] != "." else 0.0
    if match is None or not count > 0 or not math.isfinite(count):
        raise ValueError("expected epoch, 5epochs, 500steps, 30s, 10min or 2h")
    if match[2] in _SECONDS:
        return Interval(seconds=count * _SECONDS[match[2]])
    if count != int(count):
        raise ValueError("expected an integer number of epochs or steps")
    return Interval(epochs=int(count)) if match[2].startswith("epoch") else Interval(steps=int(count))
