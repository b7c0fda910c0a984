"""From values to places on a drawing, and where to write which numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

DECADES_OF_A_LINE = 2
"""Values that span more are drawn on a logarithmic scale."""
SMALLEST, LARGEST = 1e-150, 1e150
"""Beyond them a computer does not count exactly."""


def can_be_drawn(value: float) -> bool:
    """Whether it is a finite number, and not an absurd one."""
    return abs(value) < LARGEST  # NaN is not, either


@dataclass(frozen=True)
class Scale:
    """An axis: finite values from `low` to `high` become places from 0 to 1."""

    low: float
    high: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        return (self._stretched(value) - self._stretched(self.low)) / (
            self._stretched(self.high) - self._stretched(self.low)
        )

    def _stretched(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def ticks(self, about: int = 5, integers: bool = False) -> list[float]:
        """Round numbers on the axis, about so many."""
        ticks = self._decades(about) if self.is_log else []
        if len(ticks) >= 2:
            return ticks
        step = _round_step((self.high - self.low) / about)
        step = max(1, step) if integers else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        ticks = [float(f"{number * step:.12g}") for number in range(first, last + 1)]
        return [tick for tick in ticks if -1e-6 <= self.at(tick) <= 1 + 1e-6]

    def _decades(self, about: int) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        every = max(1, math.ceil((last - first + 1) / (about + 1)))
        return [10.0**power for power in range(first, last + 1) if power % every == 0]


def scale_of(values: Iterable[float], margin: float = 0.04, is_log: bool | None = None) -> Scale:
    """An axis for values, of which those that cannot be drawn do not count.

    Args:
        margin: what stays free at both ends, as part of the axis.
        is_log: by default, whether the values are positive and span more than two decades.
    """
    finite = [value for value in values if can_be_drawn(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if is_log is None:
        is_log = low > SMALLEST and math.log10(high) - math.log10(low) > DECADES_OF_A_LINE
    if is_log:
        free = (high / low) ** margin if high > low else 2.0
        return Scale(low / free, high * free, is_log=True)
    free = (high - low) * margin
    if not high - low > max(abs(high) * 1e-9, SMALLEST):  # all are the same
        free = abs(high) * 0.1 if abs(high) > SMALLEST else 1.0
    return Scale(low - free, high + free)


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of 10, no smaller than `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * (1 - 1e-9))
