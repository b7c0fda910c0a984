"""Search for the sample, and the value in it, that causes a non-finite loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from tfaip_like._keras_ext import range_checks
from tfaip_like._utils.errors import short_error_message
from tfaip_like.data._loader.batching import Batch

LossFn = Callable[[Batch], Mapping[str, Any]]
"""Eager function that maps a batch to its named losses."""


@dataclass(frozen=True)
class BadValue:
    """Value in a batch that causes a non-finite loss."""

    reason: str
    """Description of the problem."""
    row: int
    """Row of its sample in the batch."""
    array: str | None
    """Input or target that contains it, if only one does."""

    def describe(self, sample: str) -> str:
        """Return the reason with the array and the description of the sample."""
        return f"{self.reason}: {f'{self.array} of ' if self.array else ''}{sample}"


def find_bad_value(batch: Batch, losses: LossFn) -> BadValue | None:
    """Return the first value that an operation rejects, that is out of range, or that is NaN or infinity, if any."""
    return _find_raising_value(batch, losses) or _find_out_of_range(batch, losses) or _find_non_finite_data(batch)


def first_non_finite_row(batch: Batch, losses: LossFn) -> int | None:
    """Return the row of the first sample with a non-finite loss; None if each sample alone has finite losses."""

    def is_bad(part: Batch) -> bool:
        if _error_message(part, losses):
            return True
        return any(not np.isfinite(ops.convert_to_numpy(loss)).all() for loss in losses(part).values())

    return _bisect_first_row(batch, is_bad)


def _find_raising_value(batch: Batch, losses: LossFn) -> BadValue | None:
    """Return the first sample for which an operation raises: eagerly it may reject what XLA accepts."""
    row = _bisect_first_row(batch, lambda part: _error_message(part, losses) is not None)
    if row is None:
        return None
    return BadValue(str(_error_message(batch.rows(row, row + 1), losses)), row, None)


def _error_message(batch: Batch, losses: LossFn) -> str | None:
    try:
        losses(batch)
    except Exception as error:  # of any operation
        return re.sub(r"^\{\{.*?\}\} |\s*\[Op:.*$", "", short_error_message(error))
    return None


def _find_out_of_range(batch: Batch, losses: LossFn) -> BadValue | None:
    """Return the first id out of range, or the first label out of range that causes a non-finite loss."""

    def first_out_of_range(part: Batch) -> range_checks.OutOfRange | None:
        with range_checks.run_eagerly(), range_checks.RangeRecorder() as recorder:
            named = losses(part)
        is_finite = all(np.isfinite(ops.convert_to_numpy(loss)).all() for loss in named.values())
        return recorder.first_out_of_range("id") or (None if is_finite else recorder.first_out_of_range("label"))

    row = _bisect_first_row(batch, lambda part: first_out_of_range(part) is not None)
    if row is None:
        return None
    out = first_out_of_range(batch.rows(row, row + 1))
    assert out is not None
    return BadValue(str(out), row, _find_array(out, batch, row))


def _find_non_finite_data(batch: Batch) -> BadValue | None:
    for kind, arrays in (("input", batch.inputs), ("target", batch.targets)):
        for name, array in arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                row = next(number for number, values in enumerate(array) if not np.isfinite(values).all())
                return BadValue("NaN or infinity in the data", row, f"{kind} {name!r}")
    return None


def _bisect_first_row(batch: Batch, is_bad: Callable[[Batch], bool]) -> int | None:
    """Return the first bad row by bisection: ten computations instead of 1000 for a batch of 1000."""
    begin, end = 0, len(batch)
    if not end or not is_bad(batch):
        return None
    while end - begin > 1:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if is_bad(batch.rows(begin, middle)) else (middle, end)
    return begin if is_bad(batch.rows(begin, end)) else None


def _find_array(out: range_checks.OutOfRange, batch: Batch, row: int) -> str | None:
    """Return the input or target that contains the value in this row, None unless exactly one does."""
    kinds = {"id": (("input", batch.inputs), ("target", batch.targets)), "label": (("target", batch.targets),)}
    candidates = [
        f"{kind} {name!r}"
        for kind, arrays in kinds[out.kind]
        for name, array in arrays.items()
        if array.dtype.kind in "iufb" and (array[row] == out.value).any()
    ]
    return candidates[0] if len(candidates) == 1 else None
