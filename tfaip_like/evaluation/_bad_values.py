"""Finding the sample, and the value in it, that makes a loss NaN."""

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


def find_bad_value(batch: Batch, losses: LossFn) -> BadValue | None:
    """Return the first value that an operation refuses, id or label out of range, or NaN or infinity in the data."""
    return _find_raising_value(batch, losses) or _find_out_of_range(batch, losses) or _find_non_finite_data(batch)


def first_non_finite_row(batch: Batch, losses: LossFn) -> int | None:
    """Return the first sample without a finite loss; None where the losses of single samples are finite."""

    def is_bad(part: Batch) -> bool:
        if _error_message(part, losses):
            return True
        return any(not np.isfinite(ops.convert_to_numpy(loss)).all() for loss in losses(part).values())

    return _bisect_first_row(batch, is_bad)


def _find_raising_value(batch: Batch, losses: LossFn) -> BadValue | None:
    """The first sample that an operation raises for: eagerly it may refuse what XLA computes with."""
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
    """The first id out of range, or the first such label that its loss depends on."""

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
                return BadValue("the data hold NaN or infinity", row, f"{kind} {name!r}")
    return None


def _bisect_first_row(batch: Batch, is_bad: Callable[[Batch], bool]) -> int | None:
    """Bisects: in a batch of 1000, ten computations instead of 1000."""
    begin, end = 0, len(batch)
    if not end or not is_bad(batch):
        return None
    while end - begin > 1:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if is_bad(batch.rows(begin, middle)) else (middle, end)
    return begin if is_bad(batch.rows(begin, end)) else None


def _find_array(out: range_checks.OutOfRange, batch: Batch, row: int) -> str | None:
    """The only input or target that holds the value in that row."""
    kinds = {"id": (("input", batch.inputs), ("target", batch.targets)), "label": (("target", batch.targets),)}
    candidates = [
        f"{kind} {name!r}"
        for kind, arrays in kinds[out.kind]
        for name, array in arrays.items()
        if array.dtype.kind in "iufb" and (array[row] == out.value).any()
    ]
    return candidates[0] if len(candidates) == 1 else None
