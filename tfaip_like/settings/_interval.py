"""Intervals in epochs, steps or time, and the elapsed training that they divide."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tfaip_like._utils.errors import pluralize
from tfaip_like.params import FieldError, Params


@dataclass(frozen=True)
class Elapsed:
    """Elapsed part of a training, in each unit of an interval.

    Example:
        >>> Elapsed(epochs=1.5625, steps=500, seconds=60.0) - Elapsed(epochs=1.0, steps=320, seconds=38.0)
        Elapsed(epochs=0.5625, steps=180, seconds=22.0)
    """

    epochs: float = 0.0
    """Completed epochs; 1.5 in the middle of the second."""
    steps: int = 0
    """Completed steps of the run."""
    seconds: float = 0.0
    """Duration of these steps."""

    def __sub__(self, other: Elapsed) -> Elapsed:
        return Elapsed(self.epochs - other.epochs, self.steps - other.steps, self.seconds - other.seconds)


@dataclass(frozen=True)
class Interval:
    """Interval in epochs, steps or seconds: one of the fields is positive, or none of them for "never".

    Example:
        >>> interval = parse_interval("500steps")
        >>> interval, bool(interval), bool(Interval())
        (Interval(epochs=0, steps=500, seconds=0.0), True, False)
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.epochs or self.steps or self.seconds)

    def __str__(self) -> str:
        if self.seconds:
            unit = next(unit for unit in ("h", "min", "s") if self.seconds % _SECONDS[unit] == 0 or unit == "s")
            return f"{self.seconds / _SECONDS[unit]:g} {unit}"
        return pluralize(self.steps, "step") if self.steps else pluralize(self.epochs, "epoch")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Return its number of steps; 0 if it is a time or never."""
        return self.steps or self.epochs * steps_per_epoch

    def count(self, elapsed: Elapsed) -> float:
        """Return how often it fits into an elapsed part; 0 if it is never."""
        if self.steps:
            return elapsed.steps / self.steps
        if self.seconds:
            return elapsed.seconds / self.seconds
        return elapsed.epochs / self.epochs if self.epochs else 0.0

    def is_passed(self, before: Elapsed, now: Elapsed) -> bool:
        """Return whether a multiple of it was reached after `before`.

        Example:
            >>> every = parse_interval("500steps")
            >>> every.is_passed(Elapsed(steps=480), Elapsed(steps=500))
            True
            >>> every.is_passed(Elapsed(steps=500), Elapsed(steps=520))
            False
        """
        return math.floor(self.count(now)) > math.floor(self.count(before))


_FORMS = "5epochs, 500steps, 30s, 10min or 2h"
_FRACTION = "expected an integer number of epochs or steps"
_INTERVAL = re.compile(r"(\d*\.?\d*)\s*(epoch|epochs|step|steps|s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parse_interval(value: int | str) -> Interval:
    """Parse an interval: a number of epochs, of which 0 is never, or a text such as `epoch`, `500steps` or `10min`.

    Raises:
        ValueError: if `value` is not an interval, or a fraction of epochs or steps.
    """
    if not isinstance(value, str):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"expected 5 (epochs), {_FORMS}")
        return Interval(epochs=value)
    match = _INTERVAL.fullmatch(value.strip())
    count = float(match[1] or 1) if match and match[1] != "." else 0.0
    if match is None or not count > 0 or not math.isfinite(count):
        raise ValueError(f"expected epoch, {_FORMS}")
    if match[2] in _SECONDS:
        return Interval(seconds=count * _SECONDS[match[2]])
    if count != int(count):
        raise ValueError(_FRACTION)
    return Interval(epochs=int(count)) if match[2].startswith("epoch") else Interval(steps=int(count))


def require_interval(params: Params, field: str, integer: str) -> None:
    """Raise `FieldError` unless a field, of type `int | str`, is an interval.

    Args:
        params: parameters with the field.
        field: name of the field.
        integer: example of an integer and its meaning: "5 (epochs)".

    Raises:
        FieldError: lists what is accepted.
    """
    try:
        parse_interval(getattr(params, field))
    except ValueError as problem:
        message = _FRACTION if str(problem) == _FRACTION else f"expected {integer}, {_FORMS}"
        raise FieldError(field, message) from problem
