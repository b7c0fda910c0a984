"""Formatting of numbers, durations and parameter values for display."""

from __future__ import annotations

import math
from typing import Any

from tfaip_like._utils.escaping import shell_join
from tfaip_like.params._formatting import json_to_words

NO_VALUE = "–"  # noqa: RUF001  (a dash in a table)


def format_number(number: float | None, digits: int = 4) -> str:
    """Return a number with a few significant digits: `0.0432`, `12400`, `1.2e-5`."""
    if number is None:
        return NO_VALUE
    if not math.isfinite(number):
        return {math.inf: "∞", -math.inf: "-∞"}.get(number, "NaN")
    if number == 0 or 1e-4 <= abs(number) < 1e7:
        return f"{number:.{digits}g}" if abs(number) < 10**digits else f"{number:.0f}"
    mantissa, _, exponent = f"{number:.{digits - 1}g}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def format_duration(seconds: float | None) -> str:
    """Return a duration: `0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return NO_VALUE
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    total = round(seconds)
    large = next(index for index, (_, size) in enumerate(units) if total >= size)
    (name, size), (small_name, small_size) = units[large : large + 2]
    small = total % size // small_size
    return f"{total // size} {name}" + (f" {small} {small_name}" if small else "")


def format_cell(value: Any) -> str:
    """Return a value for a table: strings unchanged, other values as by `format_flag_value`."""
    return value if isinstance(value, str) else format_flag_value(value)


def format_flag_value(value: Any) -> str:
    """Return the JSON value of a parameter as it is written after its flag."""
    return shell_join(json_to_words(value))
