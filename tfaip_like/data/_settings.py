"""Settings of data loaders: selection, order and batching of samples."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._filters import Filter
from tfaip_like.data._resampling import Resample
from tfaip_like.params import Params
from tfaip_like.params._field_rules import AffectsTrainingSamples, Requires

DEFAULT_NUM_BUCKETS = 10
"""Number of length buckets if only max_batch_length is set."""


class BaseLoaderSettings(Params):
    """Common settings of data loaders.

    Example:
        >>> BaseLoaderSettings(batch_size=32, num_processes=0).batch_size
        32
    """

    search_words = {
        "batch_size": "per_device_train_batch_size micro_batch_size",
        "limit": "limit_val_batches max_samples",
        "num_processes": "num_workers workers num_parallel_calls",
        "worker_type": "multiprocessing_context use_threads",
        "prefetch": "prefetch_factor prefetch_buffer_size",
        "timeout_seconds": "timeout",
    }

    batch_size: int = 16
    """Number of samples per batch."""

    limit: int | None = None
    """Maximum number of samples, for quick trials; by default all samples are used."""

    num_processes: Annotated[int | None, AffectsTrainingSamples(False)] = None
    """Number of data workers; 0 loads data in the main process. By default chosen automatically. Does not affect
    results."""

    worker_type: Annotated[Literal["auto", "process", "thread"], AffectsTrainingSamples(False)] = "auto"
    """Run data workers as processes or threads; auto uses threads if the processors and the source declare that they
    are thread-safe and a measurement finds threads faster. Does not affect results."""

    prefetch: Annotated[int, AffectsTrainingSamples(False)] = 16
    """Number of batches that all workers together prepare in advance."""

    timeout_seconds: Annotated[float, AffectsTrainingSamples(False)] = 600.0
    """Timeout of a data worker for a single sample, in seconds; 0 disables the timeout."""

    def check(self) -> None:
        self._check_batch_size()
        self.require(self.limit is None or self.limit >= 1, "limit", "must be at least 1; omit it for all samples")
        self.require(1 <= self.prefetch <= 256, "prefetch", "must be from 1 to 256")
        self.require(self.num_processes is None or self.num_processes >= 0, "num_processes", "must not be negative")
        self.require(self.timeout_seconds >= 0, "timeout_seconds", "must not be negative")

    def _check_batch_size(self) -> None:
        self.require(self.batch_size >= 1, "batch_size", "must be at least 1")


class LoaderSettings(BaseLoaderSettings):
    """Settings of data loaders for training and evaluation.

    Example:
        >>> LoaderSettings(buckets=5).has_buckets
        True
    """

    search_words = {
        "shuffle_buffer": "buffer_size shuffle_buffer_size",
        "balance": "class_weight class_weights weighted_sampler",
        "resample": "sample_weight sampler",
        "buckets": "num_buckets bucket_by_length group_by_length",
        "max_batch_length": "max_tokens",
    }

    shuffle: bool = False
    """Shuffle the samples, in a different order for each pass that is determined by the random seed."""

    shuffle_buffer: int | None = None
    """Size of the shuffle buffer in samples, for shards, iterable-only sources and after a StreamProcessor; by default
    64 blocks of shards or 1,000 samples, or as many as fit into 256 MB. All other data are shuffled completely."""

    cache: Annotated[Literal["none", "memory", "disk"], AffectsTrainingSamples(False)] = "none"
    """Cache of the output of the deterministic processors: in shared memory, or in a temporary file."""

    filter: list[Filter] = []
    """Filters that select the samples to use, applied in this order before any processor."""

    balance: Literal["none", "loss", "sample"] = "none"
    """Class balancing: weight the loss of each sample by n_total / (n_classes * n_in_class), or sample all classes with
    equal probability."""

    resample: Resample | None = None
    """Distribution of a target or input to resample to; by default every sample is used once per pass."""

    buckets: int = 0
    """Number of length buckets with equally many samples, for batches of similar length; 0 disables bucketing."""

    bucket_boundaries: list[int] = []
    """Lengths at which a new bucket begins, in ascending order; replaces `buckets`."""

    max_batch_length: int | None = None
    """Maximum padded size of a batch: number of samples times longest sample. Batches of long samples are smaller."""

    def check(self) -> None:
        super().check()
        self.require(self.shuffle_buffer is None or self.shuffle_buffer >= 1, "shuffle_buffer", "must be at least 1")
        self.require(self.buckets >= 0, "buckets", "must not be negative")
        boundaries = self.bucket_boundaries
        rising = all(a < b for a, b in pairwise(boundaries))
        self.require(rising, "bucket_boundaries", "must be in ascending order")
        self.require(not (boundaries and self.buckets), "bucket_boundaries", "cannot be combined with buckets")
        self.require(
            self.max_batch_length is None or self.max_batch_length >= 1, "max_batch_length", "must be at least 1"
        )
        weighted_by = "resample" if self.resample is not None else "balance" if self.balance == "sample" else ""
        self.require(
            not (self.resample is not None and self.balance == "sample"),
            "balance",
            "cannot be combined with resample: both set the sampling weights",
        )
        self.require(
            not (weighted_by and self.has_buckets),
            weighted_by or "resample",
            "cannot be combined with length buckets, which use each sample once",
        )

    @property
    def has_buckets(self) -> bool:
        """Return whether batches are bucketed by length."""
        return bool(self.buckets or self.bucket_boundaries or self.max_batch_length)


class TrainLoaderSettings(LoaderSettings):
    """Settings of the training data loader.

    Example:
        >>> TrainLoaderSettings(folds=5, fold=2).shuffle
        True
    """

    search_words = {
        "folds": "k_folds num_folds n_splits cross_validation",
    }

    batch_size: int | Literal["auto"] = 16  # type: ignore[assignment]  # a number once the training has begun
    """Number of samples per batch; auto tries which is the largest whose training steps fit into memory, once before a
    new run."""

    shuffle: bool = True
    """Shuffle the samples, in a different order for each pass that is determined by the random seed."""

    folds: int = 0
    """Number of cross-validation folds of the training data, of which the run validates on one; 0 disables
    cross-validation."""

    fold: Annotated[int, Requires("folds", "cross-validation is disabled (--train.folds 0)")] = 1
    """Fold to validate on, from 1 to folds. The exports of all folds can be used as an ensemble."""

    @property
    def fixed_batch_size(self) -> int:
        """Return the batch size.

        Raises:
            UsageError: if it is `auto`.
        """
        if self.batch_size == "auto":
            raise UsageError("--train.batch_size auto: only a new training finds the batch size; pass a number")
        return self.batch_size

    def _check_batch_size(self) -> None:
        if self.batch_size != "auto":
            super()._check_batch_size()

    def check(self) -> None:
        super().check()
        self.require(self.folds == 0 or self.folds >= 2, "folds", "must be 0 (disabled) or at least 2")
        self.require(self.folds == 0 or 1 <= self.fold <= self.folds, "fold", f"must be from 1 to {self.folds}")


class ValLoaderSettings(LoaderSettings):
    """Settings of the validation data loader; every sample is used once, unless sampling weights are set.

    Example:
        >>> ValLoaderSettings().batch_size
        64
    """

    batch_size: int = 64
    """Number of samples per batch."""


class LavLoaderSettings(ValLoaderSettings):
    """Settings of the data loader for load-and-validate; like those for validation.

    Example:
        >>> LavLoaderSettings(limit=100).limit
        100
    """


class PredictLoaderSettings(BaseLoaderSettings):
    """Settings of the prediction data loader; every sample is used once, in the order of the source.

    Example:
        >>> PredictLoaderSettings(num_processes=0).batch_size
        64
    """

    batch_size: int = 64
    """Number of samples per batch."""
