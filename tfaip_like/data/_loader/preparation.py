"""Preparation of a data loader: selection, caching and counting of samples, choice of the batch sampler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.cache_building import fill_cache
from tfaip_like.data._loader.counting import PassCounts, count_pass
from tfaip_like.data._loader.dropped_samples import DroppedSample, DropReport
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sample_validation import validate_first_sample
from tfaip_like.data._loader.sampler import (
    BatchSampler,
    BucketBatchSampler,
    FixedSizeBatchSampler,
    Sampler,
    quantile_boundaries,
)
from tfaip_like.data._loader.selection import Selection, select_samples
from tfaip_like.data._loader.stream_cache import cache_stream, count_deterministic_stages, has_stream_processor
from tfaip_like.data._loader.streams import Stream
from tfaip_like.data._loader.windows import BlockSource, WindowSampler, blocks_per_window
from tfaip_like.data._resampling import class_weights_from_counts
from tfaip_like.data._settings import DEFAULT_NUM_BUCKETS, LoaderSettings
from tfaip_like.data._sources.datasets.items import is_known_to_end
from tfaip_like.data._workers.background import call_in_thread

logger = logging.getLogger(__name__)


class Preparation:
    """Selection, cache, counts and batch sampler of a data loader.

    Args:
        samples: reader of the samples.
        settings: settings of the loader.
        group: flag group such as `train`, for messages.
        dropped: collects the samples that processors drop.
        check: called while waiting; raises to stop.
        counts: count the samples of a pass if they are processed in groups.
        pass_counts: known counts of a pass.

    Attributes:
        samples: reader to build batches from; replaced if the results of a StreamProcessor are cached.
        order: sampler of a random-access source; None for an iterable-only source.
        batch_sampler: batch sampler; None for samples that are processed in groups.
        stream: stream of samples that are processed in groups; else None.
        bad: bad samples found so far.

    Raises:
        UsageError: if the settings do not suit the source, or no sample is selected.
    """

    def __init__(
        self,
        samples: SampleReader,
        settings: LoaderSettings,
        group: str,
        dropped: DropReport,
        check: Callable[[], None],
        counts: bool,
        pass_counts: PassCounts | None,
    ):
        self.samples = samples
        self.settings = settings
        self.group = group
        self.dropped = dropped
        self.pass_counts = pass_counts
        self.bad: list[BadSample] = []
        self.order: Sampler | None = None
        self.batch_sampler: BatchSampler | None = None
        self.stream: Stream | None = None
        self._check = check
        has_index = hasattr(samples.source, "__len__") and hasattr(samples.source, "__getitem__")
        if not has_index:
            self._reject_unsupported_settings()
        if samples.is_stream and settings.cache != "none":
            settings = self._cache_stream()
        if self.samples.is_stream or not has_index:
            self._open_stream(settings, has_index, counts and (has_index or is_known_to_end(samples.source)))
        else:
            self._select(settings)
            if settings.shuffle_buffer is not None and not isinstance(self.samples.source, BlockSource):
                logger.warning(
                    "--%s.shuffle_buffer ignored: the source is random-access, so --%s.shuffle shuffles all samples",
                    group,
                    group,
                )

    def _select(self, settings: LoaderSettings) -> None:
        chosen = self._select_samples(settings)
        first = int(chosen.indices[0])
        if self.samples.is_array_backed:
            validate_first_sample(self.samples, first)
        else:
            call_in_thread(lambda: validate_first_sample(self.samples, first), self._check)
        if chosen.lengths is not None:
            self._reject_needless_buckets()
        if settings.cache != "none" and not self.samples.is_array_backed:
            self._fill_cache(settings)
        self.batch_sampler = self._make_batch_sampler(chosen)

    def _fill_cache(self, settings: LoaderSettings, stages: int | None = None) -> None:
        cache = fill_cache(self.samples, settings, self.group, self._check, stages)
        self.samples.cache = cache
        self._record_cached(cache.bad, cache.dropped)

    def _record_cached(self, bad: Sequence[BadSample], dropped: Sequence[DroppedSample]) -> None:
        self.bad += bad
        self.dropped.record(dropped, self.samples.describe_sample)
        self.dropped.log(len(self.samples.indices))

    def _cache_stream(self) -> LoaderSettings:
        """Cache the results of the deterministic stages; return the settings for the remaining ones."""
        # Filters and sampling weights apply to the samples of the source.
        chosen = self._select_samples(_source_settings(self.settings))
        stream = Stream(self.samples, _source_settings(self.settings), self.order, self.group)
        stages = count_deterministic_stages(stream, self._check)
        if not has_stream_processor(self.samples, stages):
            self._fill_cache(self.settings, stages)
            return replace(self.settings, cache="none")
        cached = cache_stream(stream, chosen.sampling_weights, stages, self.settings, self._check)
        self._record_cached(cached.bad, cached.dropped)
        self.samples, self.order = cached.samples, None
        balance: Literal["none", "loss"] = "loss" if self.settings.balance == "loss" else "none"
        return replace(self.settings, cache="none", filter=[], resample=None, limit=None, balance=balance)

    def _open_stream(self, settings: LoaderSettings, has_index: bool, counts: bool) -> None:
        if settings.has_buckets:
            self._reject_needless_buckets()
        if has_index and self.order is None:
            self._select_samples(_source_settings(settings))
        self.stream = Stream(self.samples, settings, self.order, self.group)
        if self.pass_counts is not None and self.pass_counts.raw != len(self.order or ()):
            self.pass_counts = None
        if settings.balance == "loss" or (counts and self.pass_counts is None):
            self.pass_counts = count_pass(self.stream, self._check)
        if settings.balance == "loss":
            assert self.pass_counts is not None
            self.samples.class_weights = class_weights_from_counts(self.pass_counts.classes)

    def _select_samples(self, settings: LoaderSettings) -> Selection:
        self._reject_unordered_reading(settings)
        chosen = select_samples(self.samples, settings, self.group, self._check)
        self.bad += chosen.bad
        self.samples.indices = chosen.indices
        self.samples.loss_weights = chosen.loss_weights
        self.order = self._make_sampler(chosen, settings)
        return chosen

    def _make_sampler(self, chosen: Selection, settings: LoaderSettings) -> Sampler:
        source, seed = self.samples.source, self.samples.seed
        if not settings.shuffle or not isinstance(source, BlockSource):
            return Sampler(chosen.indices, seed, settings.shuffle, chosen.sampling_weights)
        num_blocks = blocks_per_window(source, settings.shuffle_buffer, self.group)
        return WindowSampler(chosen.indices, seed, source.block_ends, num_blocks)

    def _reject_unordered_reading(self, settings: LoaderSettings) -> None:
        """Raise `UsageError` for settings that draw samples from a whole source, although reading is fast in blocks."""
        if not isinstance(self.samples.source, BlockSource):
            return
        flags = {
            "resample": settings.resample is not None,
            "balance sample": settings.balance == "sample",
            "buckets": settings.buckets > 0,
            "bucket_boundaries": bool(settings.bucket_boundaries),
            "max_batch_length": settings.max_batch_length is not None,
        }
        for flag, is_set in flags.items():
            if is_set:
                raise UsageError(
                    f"--{self.group}.{flag}: {type(self.samples.source).__name__} reads its samples in blocks, which "
                    "excludes sampling weights, and length buckets unless a StreamProcessor is used"
                )

    def _make_batch_sampler(self, chosen: Selection) -> BatchSampler:
        assert self.order is not None
        if chosen.lengths is None:
            return FixedSizeBatchSampler(self.order, self.settings.batch_size)
        settings = self.settings
        buckets = settings.buckets or DEFAULT_NUM_BUCKETS
        boundaries = settings.bucket_boundaries or quantile_boundaries(chosen.lengths, buckets)
        return BucketBatchSampler(
            self.order, self.settings.batch_size, chosen.lengths, boundaries, settings.max_batch_length
        )

    def _reject_unsupported_settings(self) -> None:
        """Raise `UsageError` for settings that require a random-access source."""
        settings, name = self.settings, type(self.samples.data).__name__
        requires_random_access = {
            "cache": settings.cache != "none",
            "balance": settings.balance == "sample",
            "filter": bool(settings.filter),
            "resample": settings.resample is not None,
        }
        for field, is_set in requires_random_access.items():
            if is_set:
                raise UsageError(
                    f"--{self.group}.{field} requires a random-access source (with __len__ and __getitem__); "
                    f"the source of {name} is iterable-only"
                )

    def _reject_needless_buckets(self) -> None:
        if all(spec.is_static for spec in self.samples.specs):
            names = ("buckets", "bucket_boundaries", "max_batch_length")
            field = next(name for name in names if getattr(self.settings, name))
            raise UsageError(f"--{self.group}.{field}: length buckets require samples with an axis of unknown length")


def _source_settings(settings: LoaderSettings) -> LoaderSettings:
    """Return the settings that apply to source samples, if samples are processed in groups.

    Length buckets, the shuffle buffer and class weights of the loss apply to processed samples.
    """
    balance: Literal["none", "sample"] = "sample" if settings.balance == "sample" else "none"
    return replace(
        settings, balance=balance, buckets=0, bucket_boundaries=[], max_batch_length=None, shuffle_buffer=None
    )
