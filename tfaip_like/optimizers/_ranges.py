"""Value ranges of fields, written next to the field as annotations of its type.

Example:
    >>> class Momentum(Params):
    ...     momentum: UnitInterval = 0.9
    >>> check_ranges(Momentum(momentum=1.0))
    Traceback (most recent call last):
    tfaip_like.params._base.FieldError: momentum: must be in [0, 1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from tfaip_like.params import Params
from tfaip_like.params._field_rules import field_rules


@dataclass(frozen=True)
class Range:
    """Allowed range of a number."""

    message: str
    contains: Callable[[float], bool]


UnitInterval: TypeAlias = Annotated[float, Range("must be in [0, 1)", lambda value: 0 <= value < 1)]
Positive: TypeAlias = Annotated[float, Range("must be above 0", lambda value: value > 0)]
PositiveInt: TypeAlias = Annotated[int, Range("must be above 0", lambda value: value > 0)]
NonNegative: TypeAlias = Annotated[float, Range("must not be negative", lambda value: value >= 0)]
NonNegativeInt: TypeAlias = Annotated[int, Range("must not be negative", lambda value: value >= 0)]
NonPositive: TypeAlias = Annotated[float, Range("must not be positive", lambda value: value <= 0)]


def check_ranges(params: Params) -> None:
    """Raise `FieldError` for the first number outside the range that its field is annotated with."""
    for name, allowed in field_rules(type(params), Range).items():
        value = getattr(params, name)
        params.require(value is None or allowed.contains(value), name, allowed.message)
