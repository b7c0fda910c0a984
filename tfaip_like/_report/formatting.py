"""Numbers, times and values of parameters as a person reads them."""

from __future__ import annotations

import math
from typing import Any

from tfaip_like._utils.escaping import shell_join
from tfaip_like.params._formatting import json_to_words

NO_VALUE = "–"  # noqa: RUF001  (a dash in a table)


def format_number(number: float | None, digits: int = 4) -> str:
    """A number with a few digits: `0.0432`, `12400`, `1.2e-5`."""
    if number is None:
        return NO_VALUE
    if not math.isfinite(number):
        return {math.inf: "∞", -math.inf: "-∞"}.get(number, "NaN")
    if number == 0 or 1e-4 <= abs(number) < 1e7:
        return f"{number:.{digits}g}" if abs(number) < 10**digits else f"{number:.0f}"
    mantissa, _, exponent = f"{number:.{digits - 1}g}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def format_duration(seconds: float | None) -> str:
    """A time: `0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return NO_VALUE
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left = round(seconds)
    large = next(index for index, (_, size) in enumerate(units) if left >= size)
    (name, size), (part_name, part_size) = units[large : large + 2]
    part = left % size // part_size
    return f"{left // size} {name}" + (f" {part} {part_name}" if part else "")


def format_cell(value: Any) -> str:
    """Return a value for a table: a text as it is, all else as `format_flag_value`."""
    return value if isinstance(value, str) else format_flag_value(value)


def format_flag_value(value: Any) -> str:
    """Return the value of a parameter, a JSON value, as it is typed behind its flag."""
    return shell_join(json_to_words(value))
