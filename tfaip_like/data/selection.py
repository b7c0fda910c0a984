"""Which samples are used, how often each is drawn, and how much it counts in the loss."""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data.batching import BadSample, name_sample
from tfaip_like.data.data import Data, length_of_arrays
from tfaip_like.data.filters import column_of, value_of
from tfaip_like.data.resample import Floats, class_weights, equal_classes, normalised
from tfaip_like.data.samples import Samples
from tfaip_like.data.settings import DataSettings
from tfaip_like.data.sources.arrays import ArraySource
from tfaip_like.data.workers.many import map_in_parts
from tfaip_like.errors import UsageError

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """What is known of the samples before any is made."""

    indices: Indices
    """Those that are used, by their index in the source, rising."""
    draw_weights: Floats | None = None
    """How often each of them is drawn, as probabilities; None for equally often."""
    loss_weights: npt.NDArray[np.float32] | None = None
    """How much the loss counts, for each sample of the source."""
    lengths: Indices | None = None
    """Of each of them, where batches are made by length."""
    bad: Sequence[BadSample] = ()
    """Those that could not be looked at, and so are not used."""


@dataclass(frozen=True)
class _Known:
    """What was asked of one sample."""

    removed_by: int = -1
    """Number of the filter that removes it."""
    class_: Hashable = None
    value: float = 0.0
    length: int = 0
    bad: BadSample | None = None
    """Why nothing is known of it."""


class Survey:
    """The work of looking at each sample once, as the source gives it."""

    def __init__(self, samples: Samples, settings: DataSettings):
        self.samples = samples
        self.settings = settings
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, indices: Indices) -> list[_Known]:
        self.samples.at, self.samples.seconds = self.at, self.seconds
        return [self._known(index) for index in indices.tolist()]

    def what_is_made(self, at: Indices) -> str:
        """The sample that is looked at."""
        return self.samples.what_is_made(at)

    def _known(self, index: int) -> _Known:
        self.at[:] = (0, index, 0, 0, self.at[4] + 1)
        data, settings = self.samples.data, self.settings
        try:
            sample = self.samples.raw(index)
            for number, condition in enumerate(settings.filter):
                if not condition.keep(sample):
                    return _Known(removed_by=number)
            class_ = data.class_of(sample) if settings.balance != "none" else None
            resample = settings.resample
            value = float(value_of(sample, resample.target, resample.component)) if resample else 0.0
            return _Known(-1, class_, value, self._length(index, data) if settings.has_buckets else 0)
        except Exception as error:
            if data.on_bad_sample == "skip":
                bad = BadSample(index, self.samples.place(index), f"{type(error).__name__}: {error}")
                return _Known(removed_by=len(settings.filter), bad=bad)
            name_sample(error, self.samples.place(index))
            raise

    def _length(self, index: int, data: Data) -> int:
        length = data.length(self.samples.raw(index))
        if length is not None:
            return length
        made = self.samples.sample(index)
        return 0 if made is None else length_of_arrays(made, {"inputs": data.inputs, "targets": data.targets})


def select(samples: Samples, settings: DataSettings, group: str) -> Selection:
    """Applies limit, filters, balance and resampling, in this order.

    Args:
        group: of the flags, `train`: for messages.

    Raises:
        UsageError: when nothing is left.
    """
    indices = np.arange(min(len(samples.source), settings.limit or sys.maxsize), dtype=np.int64)
    weights = getattr(samples.source, "draw_weights", None)
    if not (settings.filter or settings.balance != "none" or settings.resample or settings.has_buckets):
        return Selection(indices, None if weights is None else normalised(weights[indices]))
    if isinstance(samples.source, ArraySource) and not settings.has_buckets:
        removed, classes, values = _of_arrays(samples.source, samples.data, settings, indices)
        lengths = np.zeros(len(indices), np.int64)
        bad = []
    else:
        known = map_in_parts(Survey(samples, settings), indices, settings, f"looking at --{group} samples")
        removed = np.array([one.removed_by for one in known])
        classes = np.array([0 if one.bad else one.class_ for one in known], dtype=object)
        values = np.array([one.value for one in known])
        lengths = np.array([one.length for one in known], np.int64)
        bad = [one.bad for one in known if one.bad is not None]
    kept = removed < 0
    _report(settings, removed, group, samples)
    classes, values, lengths, indices = classes[kept], values[kept], lengths[kept], indices[kept]
    base = None if weights is None else normalised(weights[indices])
    loss_weights = None
    if settings.balance == "loss":
        by_class = class_weights(classes)
        logger.info("class weights: %s", ", ".join(f"{name} {weight:.4g}" for name, weight in by_class.items()))
        loss_weights = np.zeros(len(samples.source), np.float32)
        loss_weights[indices] = [by_class[name] for name in classes.tolist()]
    elif settings.balance == "sample":
        base = equal_classes(classes, base)
        logger.info("%d classes are drawn equally often", len(np.unique(classes)))
    if settings.resample is not None:
        base = settings.resample.weights(values)
        never = int((base == 0).sum())
        logger.info("drawn by %r%s", settings.resample, f"; {never} samples never" if never else "")
    return Selection(indices, base, loss_weights, lengths if settings.has_buckets else None, bad)


def _of_arrays(source: ArraySource, data: Data, settings: DataSettings, indices: Indices) -> tuple[Any, Any, Any]:
    """What the survey finds out, for all rows of arrays at once."""
    removed = np.full(len(indices), -1)
    for number, condition in enumerate(settings.filter):
        left = np.flatnonzero(removed < 0)
        kept = np.asarray(condition.keep_rows(source[indices[left]]), dtype=bool)
        removed[left[~kept]] = number
    if settings.balance == "none":
        classes = np.zeros(len(indices))
    elif type(data).class_of is Data.class_of:
        classes = source.targets[data.class_target()][indices]
    else:
        classes = np.array([data.class_of(source[index]) for index in indices.tolist()])
    resample = settings.resample
    values = column_of(source, resample.target, resample.component)[indices] if resample else np.zeros(len(indices))
    return removed, classes, values


def _report(settings: DataSettings, removed: npt.NDArray[Any], group: str, samples: Samples) -> None:
    """How much each filter removed."""
    left = len(removed)
    for number, condition in enumerate(settings.filter):
        gone = int((removed == number).sum())
        logger.info("--%s.filter %r removed %d of %d samples", group, condition, gone, left)
        left -= gone
    if not left:
        raise UsageError(f"--{group}.filter: no sample of {type(samples.data).__name__} is left")
