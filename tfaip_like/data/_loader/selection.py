"""Selection of samples, their sampling weights and their loss weights."""

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
from tfaip_like._utils.errors import UsageError, pluralize
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
from tfaip_like.data._sources.indexed import IndexRange, Indices
from tfaip_like.data._workers.parallel_map import map_in_chunks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Selected samples and their weights."""

    indices: Indices
    """Indices of the selected samples in the source, ascending; shape (N,)."""
    sampling_weights: FloatArray | None = None
    """Sampling probability of each selected sample, shape (N,); None for uniform sampling."""
    loss_weights: npt.NDArray[np.float32] | None = None
    """Loss weight of each sample of the source; None for 1."""
    lengths: npt.NDArray[np.int64] | None = None
    """Length of each selected sample, for length buckets."""
    bad: Sequence[BadSample] = ()
    """Samples that failed, and are not selected."""


@dataclass(frozen=True)
class _ScanResult:
    """Result of scanning some samples."""

    removed_by: npt.NDArray[np.int64]
    """Index of the filter that removes each sample; -1 for none, the number of filters for bad samples."""
    classes: Sequence[Hashable]
    values: FloatArray
    lengths: npt.NDArray[np.int64]
    bad: Sequence[BadSample] = ()


class SampleScan:
    """Worker function that applies filters to unprocessed samples, and finds their classes, values and lengths."""

    def __init__(self, samples: SampleReader, settings: LoaderSettings):
        self.samples = samples
        self.settings = settings
        self.progress = samples.progress
        self.seconds = samples.seconds

    def __call__(self, indices: npt.NDArray[np.int64]) -> _ScanResult:
        self.samples.progress, self.samples.seconds = self.progress, self.seconds
        count = len(indices)
        scan = _ScanResult(np.full(count, -1), [None] * count, np.zeros(count), np.zeros(count, np.int64))
        bad = []
        for place, index in enumerate(indices.tolist()):
            self.progress[:] = (0, index, 0, 0, self.progress[4] + 1)
            try:
                self._scan_sample(scan, place, index)
            except Exception as error:
                where = self.samples.describe_sample(index)
                if self.samples.data.on_bad_sample == "raise":
                    add_sample_note(error, where)
                    raise
                scan.removed_by[place] = len(self.settings.filter)
                bad.append(BadSample(index, where, f"{type(error).__name__}: {error}"))
        return replace(scan, bad=bad)

    def describe_progress(self, progress: npt.NDArray[np.int64]) -> str:
        """Describe the sample that is being scanned."""
        return self.samples.describe_progress(progress)

    def _scan_sample(self, scan: _ScanResult, place: int, index: int) -> None:
        data, settings = self.samples.data, self.settings
        sample = self.samples.read_source(index)
        for number, condition in enumerate(settings.filter):
            if not condition.keep(sample):
                scan.removed_by[place] = number
                return
        if settings.balance != "none":
            scan.classes[place] = data.class_label(sample)  # type: ignore[index]
        if settings.resample is not None:
            scan.values[place] = get_value(sample, settings.resample.target, settings.resample.component)
        if settings.has_buckets:
            with attribute_errors_to(data.length):
                scan.lengths[place] = self._length(sample, index, data)

    def _length(self, sample: Sample, index: int, data: Data) -> int:
        # `Data.length` applies to source samples, not to results of a StreamProcessor.
        length = None if isinstance(self.samples.source, CachedStreamSource) else data.length(sample)
        if length is not None:
            return length
        processed = self.samples.sample(index)
        return (
            0
            if processed is None
            else compute_sample_length(processed, {"inputs": data.inputs, "targets": data.targets})
        )


def select_samples(samples: SampleReader, settings: LoaderSettings, group: str, check: Callable[[], None]) -> Selection:
    """Apply limit, filters, balance and resampling, in this order.

    Args:
        samples: reader of the samples.
        settings: settings of the loader.
        group: flag group such as `train`, for messages.
        check: called while waiting; raises to stop.

    Raises:
        UsageError: if no sample is left, or settings contradict the sampling weights of the source.
    """
    all_indices = IndexRange(min(len(samples.source), settings.limit or sys.maxsize))
    weights: FloatArray | None = getattr(samples.source, "sampling_weights", None)
    if weights is not None and (settings.has_buckets or settings.resample is not None):
        other = "length buckets" if settings.has_buckets else "resample"
        raise UsageError(f"--{group}: sources with sampling weights (list_ratios) cannot be combined with {other}")
    if not (settings.filter or settings.balance != "none" or settings.resample or settings.has_buckets):
        return Selection(all_indices, None if weights is None else _subset_probabilities(weights, all_indices, group))
    indices = all_indices[:]
    if isinstance(samples.source, ArraySource) and not settings.has_buckets:
        scan = _scan_arrays(samples.source, samples.data, settings, indices)
    else:
        work, title = SampleScan(samples, settings), f"scanning --{group} samples"
        parts = [part for _, part in map_in_chunks(work, indices, settings, title, check)]
        scan = _ScanResult(
            np.concatenate([part.removed_by for part in parts]),
            list(itertools.chain.from_iterable(part.classes for part in parts)),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            list(itertools.chain.from_iterable(part.bad for part in parts)),
        )
    kept = np.flatnonzero(scan.removed_by < 0)
    _log_filtered(settings, scan.removed_by, group, samples)
    base = None if weights is None else _subset_probabilities(weights, indices[kept], group)
    loss_weights = None
    if settings.balance != "none":
        names: dict[Hashable, int] = {}
        with attribute_errors_to(samples.data.class_label):
            numbers = np.array([names.setdefault(scan.classes[place], len(names)) for place in kept.tolist()])
        if settings.balance == "loss":
            by_class = compute_class_weights(numbers)
            text = ", ".join(f"{name} {by_class[number]:.4g}" for name, number in names.items())
            logger.info("class weights: %s", text)
            loss_weights = np.zeros(len(samples.source), np.float32)
            loss_weights[indices[kept]] = [by_class[number] for number in numbers.tolist()]
        else:
            base = class_balanced_probabilities(numbers, base)
            logger.info("sampling %d classes with equal probability", len(names))
    if settings.resample is not None:
        base = settings.resample.weights(scan.values[kept])
        never = int((base == 0).sum())
        note = f"; {pluralize(never, 'sample')} with probability zero" if never else ""
        logger.info("resampling by %r%s", settings.resample, note)
    lengths = scan.lengths[kept] if settings.has_buckets else None
    return Selection(indices[kept], base, loss_weights, lengths, scan.bad)


def _subset_probabilities(weights: FloatArray, indices: Indices, group: str) -> FloatArray:
    """Return the sampling probabilities of some samples."""
    part = weights[np.asarray(indices)]
    if not part.sum() > 0:
        raise UsageError(f"--{group}: all remaining samples have sampling weight 0 (list_ratios)")
    return normalize_weights(part)


def _scan_arrays(
    source: ArraySource, data: Data, settings: LoaderSettings, indices: npt.NDArray[np.int64]
) -> _ScanResult:
    """Scan all rows of arrays with NumPy."""
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
    """Log the number of samples that each filter removed, and the first of them."""
    left = len(removed)
    for number, condition in enumerate(settings.filter):
        gone = np.flatnonzero(removed == number)  # also indices in the source, which is scanned from its start
        names = [samples.describe_sample(index) for index in gone[:MAX_NAMED_SAMPLES].tolist()]
        more = [f"and {len(gone) - len(names)} more"] if len(gone) > len(names) else []
        named = f" ({'; '.join([*names, *more])})" if names else ""
        logger.info("--%s.filter %r removed %d of %d samples%s", group, condition, len(gone), left, named)
        left -= len(gone)
    if not left:
        raise UsageError(f"--{group}.filter: no sample of {type(samples.data).__name__} passes the filters")
