"""Finding the sample, and the value in it, that makes a loss NaN."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from tfaip_like._keras_ext import ranges
from tfaip_like._utils.errors import first_line
from tfaip_like.data._loader.batching import Batch

Losses = Callable[[Batch], Mapping[str, Any]]
"""Computes the named losses of a batch, eagerly."""


@dataclass(frozen=True)
class BadValue:
    """A value in a batch that no finite loss can come from."""

    reason: str
    """What is wrong with it."""
    row: int
    """Of its sample in the batch."""
    array: str | None
    """The input or target that holds it, where there is no doubt."""

    def at(self, place: str) -> str:
        """Describe it, with the place of its sample."""
        return f"{self.reason}: {f'{self.array} of ' if self.array else ''}{place}"


def find_bad_value(batch: Batch, losses: Losses) -> BadValue | None:
    """Return the first value that an operation refuses, id or label out of range, or NaN or infinity in the data."""
    return _refused(batch, losses) or _out_of_range(batch, losses) or _non_finite_data(batch)


def first_non_finite_row(batch: Batch, losses: Losses) -> int | None:
    """Return the first sample without a finite loss; None where the losses of single samples are finite."""

    def is_bad(part: Batch) -> bool:
        if _problem(part, losses):
            return True
        return any(not np.isfinite(ops.convert_to_numpy(loss)).all() for loss in losses(part).values())

    return _first_row(batch, is_bad)


def _refused(batch: Batch, losses: Losses) -> BadValue | None:
    """The first sample that an operation raises for: eagerly it may refuse what XLA computes with."""
    row = _first_row(batch, lambda part: _problem(part, losses) is not None)
    if row is None:
        return None
    return BadValue(str(_problem(batch.rows(row, row + 1), losses)), row, None)


def _problem(batch: Batch, losses: Losses) -> str | None:
    try:
        losses(batch)
    except Exception as error:  # of any operation
        return re.sub(r"^\{\{.*?\}\} |\s*\[Op:.*$", "", first_line(error))
    return None


def _out_of_range(batch: Batch, losses: Losses) -> BadValue | None:
    """The first id out of range, or the first such label that its loss depends on."""

    def found(part: Batch) -> ranges.OutOfRange | None:
        with ranges.eagerly(), ranges.Watch() as watch:
            named = losses(part)
        is_finite = all(np.isfinite(ops.convert_to_numpy(loss)).all() for loss in named.values())
        return watch.found("id") or (None if is_finite else watch.found("label"))

    row = _first_row(batch, lambda part: found(part) is not None)
    if row is None:
        return None
    out = found(batch.rows(row, row + 1))
    assert out is not None
    return BadValue(str(out), row, _array_with(out, batch, row))


def _non_finite_data(batch: Batch) -> BadValue | None:
    for kind, arrays in (("input", batch.inputs), ("target", batch.targets)):
        for name, array in arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                row = next(number for number, values in enumerate(array) if not np.isfinite(values).all())
                return BadValue("the data hold NaN or infinity", row, f"{kind} {name!r}")
    return None


def _first_row(batch: Batch, is_bad: Callable[[Batch], bool]) -> int | None:
    """Bisects: in a batch of 1000, ten computations instead of 1000."""
    begin, end = 0, len(batch)
    if not end or not is_bad(batch):
        return None
    while end - begin > 1:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if is_bad(batch.rows(begin, middle)) else (middle, end)
    return begin if is_bad(batch.rows(begin, end)) else None


def _array_with(out: ranges.OutOfRange, batch: Batch, row: int) -> str | None:
    """The only input or target that holds the value in that row."""
    kinds = {"id": (("input", batch.inputs), ("target", batch.targets)), "label": (("target", batch.targets),)}
    holding = [
        f"{kind} {name!r}"
        for kind, arrays in kinds[out.kind]
        for name, array in arrays.items()
        if array.dtype.kind in "iufb" and (array[row] == out.value).any()
    ]
    return holding[0] if len(holding) == 1 else None
