"""Which samples are used, how often each is drawn, and how much it counts in the loss."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._user_code.code_errors import blamed
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data, length_of_arrays
from tfaip_like.data._filters import column_of, value_of
from tfaip_like.data._loader.batching import BadSample, name_sample
from tfaip_like.data._loader.dropped import NAMED
from tfaip_like.data._loader.sample_reader import Samples
from tfaip_like.data._resampling import Floats, class_weights, equal_classes, normalised
from tfaip_like.data._sample import Sample
from tfaip_like.data._settings import DataSettings
from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.cached import MadeSource
from tfaip_like.data._workers.parallel_map import in_parts

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
    """What was found out about some samples."""

    removed_by: npt.NDArray[np.int64]
    """Number of the filter that removes each, -1 for none; the number of filters where nothing could be found out."""
    classes: Sequence[Hashable]
    values: Floats
    lengths: Indices
    bad: Sequence[BadSample] = ()


class Survey:
    """The work of looking at each sample once, as the source gives it."""

    def __init__(self, samples: Samples, settings: DataSettings):
        self.samples = samples
        self.settings = settings
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, indices: Indices) -> _Known:
        self.samples.at, self.samples.seconds = self.at, self.seconds
        count = len(indices)
        known = _Known(np.full(count, -1), [None] * count, np.zeros(count), np.zeros(count, np.int64))
        bad = []
        for place, index in enumerate(indices.tolist()):
            self.at[:] = (0, index, 0, 0, self.at[4] + 1)
            try:
                self._look(known, place, index)
            except Exception as error:
                where = self.samples.place(index)
                if self.samples.data.on_bad_sample == "raise":
                    name_sample(error, where)
                    raise
                known.removed_by[place] = len(self.settings.filter)
                bad.append(BadSample(index, where, f"{type(error).__name__}: {error}"))
        return replace(known, bad=bad)

    def what_is_made(self, at: Indices) -> str:
        """The sample that is looked at."""
        return self.samples.what_is_made(at)

    def _look(self, known: _Known, place: int, index: int) -> None:
        data, settings = self.samples.data, self.settings
        sample = self.samples.raw(index)
        for number, condition in enumerate(settings.filter):
            if not condition.keep(sample):
                known.removed_by[place] = number
                return
        if settings.balance != "none":
            known.classes[place] = data.class_of(sample)  # type: ignore[index]
        if settings.resample is not None:
            known.values[place] = value_of(sample, settings.resample.target, settings.resample.component)
        if settings.has_buckets:
            with blamed(data.length):
                known.lengths[place] = self._length(sample, index, data)

    def _length(self, sample: Sample, index: int, data: Data) -> int:
        # What a StreamProcessor made is not what `Data.length` knows.
        length = None if isinstance(self.samples.source, MadeSource) else data.length(sample)
        if length is not None:
            return length
        made = self.samples.sample(index)
        return 0 if made is None else length_of_arrays(made, {"inputs": data.inputs, "targets": data.targets})


def select(samples: Samples, settings: DataSettings, group: str, check: Callable[[], None]) -> Selection:
    """Applies limit, filters, balance and resampling, in this order.

    Args:
        group: of the flags, `train`: for messages.
        check: called while waiting; raises to stop.

    Raises:
        UsageError: when nothing is left.
    """
    indices = np.arange(min(len(samples.source), settings.limit or sys.maxsize), dtype=np.int64)
    weights: Floats | None = getattr(samples.source, "draw_weights", None)
    if weights is not None and (settings.has_buckets or settings.resample is not None):
        other = "length buckets" if settings.has_buckets else "resample"
        raise UsageError(f"--{group}: sources that are drawn from by weight (list_ratios) contradict {other}")
    if not (settings.filter or settings.balance != "none" or settings.resample or settings.has_buckets):
        return Selection(indices, None if weights is None else _part(weights, indices, group))
    if isinstance(samples.source, ArraySource) and not settings.has_buckets:
        known = _of_arrays(samples.source, samples.data, settings, indices)
    else:
        survey = Survey(samples, settings)
        parts = [made for _, made in in_parts(survey, indices, settings, f"looking at --{group} samples", check)]
        known = _Known(
            np.concatenate([part.removed_by for part in parts]),
            list(itertools.chain.from_iterable(part.classes for part in parts)),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            list(itertools.chain.from_iterable(part.bad for part in parts)),
        )
    kept = np.flatnonzero(known.removed_by < 0)
    _report(settings, known.removed_by, group, samples)
    base = None if weights is None else _part(weights, indices[kept], group)
    loss_weights = None
    if settings.balance != "none":
        names: dict[Hashable, int] = {}
        with blamed(samples.data.class_of):
            numbers = np.array([names.setdefault(known.classes[place], len(names)) for place in kept.tolist()])
        if settings.balance == "loss":
            by_class = class_weights(numbers)
            text = ", ".join(f"{name} {by_class[number]:.4g}" for name, number in names.items())
            logger.info("class weights: %s", text)
            loss_weights = np.zeros(len(samples.source), np.float32)
            loss_weights[indices[kept]] = [by_class[number] for number in numbers.tolist()]
        else:
            base = equal_classes(numbers, base)
            logger.info("%d classes are drawn equally often", len(names))
    if settings.resample is not None:
        base = settings.resample.weights(known.values[kept])
        never = int((base == 0).sum())
        logger.info("drawn by %r%s", settings.resample, f"; {never} samples never" if never else "")
    lengths = known.lengths[kept] if settings.has_buckets else None
    return Selection(indices[kept], base, loss_weights, lengths, known.bad)


def _part(weights: Floats, indices: Indices, group: str) -> Floats:
    """The weights of some samples, as probabilities."""
    part = weights[indices]
    if not part.sum() > 0:
        raise UsageError(f"--{group}: all samples that are left have the weight 0 (list_ratios); nothing can be drawn")
    return normalised(part)


def _of_arrays(source: ArraySource, data: Data, settings: DataSettings, indices: Indices) -> _Known:
    """What the survey finds out, for all rows of arrays at once."""
    removed = np.full(len(indices), -1)
    for number, condition in enumerate(settings.filter):
        left = np.flatnonzero(removed < 0)
        kept = np.asarray(condition.keep_rows(source[indices[left]]), dtype=bool)
        removed[left[~kept]] = number
    classes: Sequence[Hashable] = ()
    if settings.balance != "none":
        if type(data).class_of is Data.class_of:
            classes = source.targets[data.class_target()][indices].tolist()
        else:
            classes = [data.class_of(source[index]) for index in indices.tolist()]
    resample = settings.resample
    values = column_of(source, resample.target, resample.component)[indices] if resample else np.zeros(len(indices))
    return _Known(removed, classes, values, np.zeros(len(indices), np.int64))


def _report(settings: DataSettings, removed: npt.NDArray[Any], group: str, samples: Samples) -> None:
    """Log how much each filter removed, and the first samples."""
    left = len(removed)
    for number, condition in enumerate(settings.filter):
        gone = np.flatnonzero(removed == number)  # they are numbered from the beginning of the source
        names = [samples.place(index) for index in gone[:NAMED].tolist()]
        more = [f"and {len(gone) - len(names)} more"] if len(gone) > len(names) else []
        named = f" ({'; '.join([*names, *more])})" if names else ""
        logger.info("--%s.filter %r removed %d of %d samples%s", group, condition, len(gone), left, named)
        left -= len(gone)
    if not left:
        raise UsageError(f"--{group}.filter: no sample of {type(samples.data).__name__} is left")
