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

from tfaip_like._user_code.code_errors import attribute_errors_to
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data, compute_sample_length
from tfaip_like.data._filters import get_column, get_value
from tfaip_like.data._loader.batching import BadSample, add_sample_note
from tfaip_like.data._loader.dropped_samples import MAX_NAMED_SAMPLES
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._resampling import (
    FloatArray,
    class_balanced_probabilities,
    compute_class_weights,
    normalize_weights,
)
from tfaip_like.data._sample import Sample
from tfaip_like.data._settings import LoaderSettings
from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.cached import CachedStreamSource
from tfaip_like.data._workers.parallel_map import map_in_chunks

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """What is known of the samples before any is made."""

    indices: Indices
    """Those that are used, by their index in the source, rising."""
    sampling_weights: FloatArray | None = None
    """How often each of them is drawn, as probabilities; None for equally often."""
    loss_weights: npt.NDArray[np.float32] | None = None
    """How much the loss counts, for each sample of the source."""
    lengths: Indices | None = None
    """Of each of them, where batches are made by length."""
    bad: Sequence[BadSample] = ()
    """Those that could not be looked at, and so are not used."""


@dataclass(frozen=True)
class _ScanResult:
    """What was found out about some samples."""

    removed_by: npt.NDArray[np.int64]
    """Number of the filter that removes each, -1 for none; the number of filters where nothing could be found out."""
    classes: Sequence[Hashable]
    values: FloatArray
    lengths: Indices
    bad: Sequence[BadSample] = ()


class SampleScan:
    """The work of looking at each sample once, as the source gives it."""

    def __init__(self, samples: SampleReader, settings: LoaderSettings):
        self.samples = samples
        self.settings = settings
        self.progress = samples.progress
        self.seconds = samples.seconds

    def __call__(self, indices: Indices) -> _ScanResult:
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        count = len(indices)
        known = _ScanResult(np.full(count, -1), [None] * count, np.zeros(count), np.zeros(count, np.int64))
        bad = []
        for place, index in enumerate(indices.tolist()):
            self.progress[:] = (0, index, 0, 0, self.progress[4] + 1)
            try:
                self._scan_sample(known, place, index)
            except Exception as error:
                where = self.samples.describe_sample(index)
                if self.samples.data.on_bad_sample == "raise":
                    add_sample_note(error, where)
                    raise
                known.removed_by[place] = len(self.settings.filter)
                bad.append(BadSample(index, where, f"{type(error).__name__}: {error}"))
        return replace(known, bad=bad)

    def describe_progress(self, progress: Indices) -> str:
        """The sample that is looked at."""
        return self.samples.describe_progress(progress)

    def _scan_sample(self, known: _ScanResult, place: int, index: int) -> None:
        data, settings = self.samples.data, self.settings
        sample = self.samples.read_source(index)
        for number, condition in enumerate(settings.filter):
            if not condition.keep(sample):
                known.removed_by[place] = number
                return
        if settings.balance != "none":
            known.classes[place] = data.class_label(sample)  # type: ignore[index]
        if settings.resample is not None:
            known.values[place] = get_value(sample, settings.resample.target, settings.resample.component)
        if settings.has_buckets:
            with attribute_errors_to(data.length):
                known.lengths[place] = self._length(sample, index, data)

    def _length(self, sample: Sample, index: int, data: Data) -> int:
        # What a StreamProcessor made is not what `Data.length` knows.
        length = None if isinstance(self.samples.source, CachedStreamSource) else data.length(sample)
        if length is not None:
            return length
        made = self.samples.sample(index)
        return 0 if made is None else compute_sample_length(made, {"inputs": data.inputs, "targets": data.targets})


def select_samples(samples: SampleReader, settings: LoaderSettings, group: str, check: Callable[[], None]) -> Selection:
    """Applies limit, filters, balance and resampling, in this order.

    Args:
        group: of the flags, `train`: for messages.
        check: called while waiting; raises to stop.

    Raises:
        UsageError: when nothing is left.
    """
    indices = np.arange(min(len(samples.source), settings.limit or sys.maxsize), dtype=np.int64)
    weights: FloatArray | None = getattr(samples.source, "sampling_weights", None)
    if weights is not None and (settings.has_buckets or settings.resample is not None):
        other = "length buckets" if settings.has_buckets else "resample"
        raise UsageError(f"--{group}: sources that are drawn from by weight (list_ratios) contradict {other}")
    if not (settings.filter or settings.balance != "none" or settings.resample or settings.has_buckets):
        return Selection(indices, None if weights is None else _subset_probabilities(weights, indices, group))
    if isinstance(samples.source, ArraySource) and not settings.has_buckets:
        known = _scan_arrays(samples.source, samples.data, settings, indices)
    else:
        survey = SampleScan(samples, settings)
        parts = [made for _, made in map_in_chunks(survey, indices, settings, f"looking at --{group} samples", check)]
        known = _ScanResult(
            np.concatenate([part.removed_by for part in parts]),
            list(itertools.chain.from_iterable(part.classes for part in parts)),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            list(itertools.chain.from_iterable(part.bad for part in parts)),
        )
    kept = np.flatnonzero(known.removed_by < 0)
    _log_filtered(settings, known.removed_by, group, samples)
    base = None if weights is None else _subset_probabilities(weights, indices[kept], group)
    loss_weights = None
    if settings.balance != "none":
        names: dict[Hashable, int] = {}
        with attribute_errors_to(samples.data.class_label):
            numbers = np.array([names.setdefault(known.classes[place], len(names)) for place in kept.tolist()])
        if settings.balance == "loss":
            by_class = compute_class_weights(numbers)
            text = ", ".join(f"{name} {by_class[number]:.4g}" for name, number in names.items())
            logger.info("class weights: %s", text)
            loss_weights = np.zeros(len(samples.source), np.float32)
            loss_weights[indices[kept]] = [by_class[number] for number in numbers.tolist()]
        else:
            base = class_balanced_probabilities(numbers, base)
            logger.info("%d classes are drawn equally often", len(names))
    if settings.resample is not None:
        base = settings.resample.weights(known.values[kept])
        never = int((base == 0).sum())
        logger.info("drawn by %r%s", settings.resample, f"; {never} samples never" if never else "")
    lengths = known.lengths[kept] if settings.has_buckets else None
    return Selection(indices[kept], base, loss_weights, lengths, known.bad)


def _subset_probabilities(weights: FloatArray, indices: Indices, group: str) -> FloatArray:
    """The weights of some samples, as probabilities."""
    part = weights[indices]
    if not part.sum() > 0:
        raise UsageError(f"--{group}: all samples that are left have the weight 0 (list_ratios); nothing can be drawn")
    return normalize_weights(part)


def _scan_arrays(source: ArraySource, data: Data, settings: LoaderSettings, indices: Indices) -> _ScanResult:
    """What the survey finds out, for all rows of arrays at once."""
    removed = np.full(len(indices), -1)
    for number, condition in enumerate(settings.filter):
        left = np.flatnonzero(removed < 0)
        kept = np.asarray(condition.keep_rows(source[indices[left]]), dtype=bool)
        removed[left[~kept]] = number
    classes: Sequence[Hashable] = ()
    if settings.balance != "none":
        if type(data).class_label is Data.class_label:
            classes = source.targets[data.class_target()][indices].tolist()
        else:
            classes = [data.class_label(source[index]) for index in indices.tolist()]
    resample = settings.resample
    values = get_column(source, resample.target, resample.component)[indices] if resample else np.zeros(len(indices))
    return _ScanResult(removed, classes, values, np.zeros(len(indices), np.int64))


def _log_filtered(settings: LoaderSettings, removed: npt.NDArray[Any], group: str, samples: SampleReader) -> None:
    """Log how much each filter removed, and the first samples."""
    left = len(removed)
    for number, condition in enumerate(settings.filter):
        gone = np.flatnonzero(removed == number)  # they are numbered from the beginning of the source
        names = [samples.describe_sample(index) for index in gone[:MAX_NAMED_SAMPLES].tolist()]
        more = [f"and {len(gone) - len(names)} more"] if len(gone) > len(names) else []
        named = f" ({'; '.join([*names, *more])})" if names else ""
        logger.info("--%s.filter %r removed %d of %d samples%s", group, condition, len(gone), left, named)
        left -= len(gone)
    if not left:
        raise UsageError(f"--{group}.filter: no sample of {type(samples.data).__name__} is left")
