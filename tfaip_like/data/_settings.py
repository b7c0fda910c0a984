"""Settings of the input pipeline: how samples are chosen, ordered and made into batches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from tfaip_like.data._filters import Filter
from tfaip_like.data._resampling import Resample
from tfaip_like.params import Params

DEFAULT_NUM_BUCKETS = 10
"""Length buckets, where only the length of batches is limited."""


class BaseLoaderSettings(Params):
    """How samples are made into batches."""

    search_words = {
        "batch_size": "per_device_train_batch_size micro_batch_size",
        "limit": "limit_val_batches max_samples",
        "num_processes": "num_workers workers num_parallel_calls",
        "prefetch": "prefetch_factor prefetch_buffer_size",
        "timeout_seconds": "timeout",
    }

    batch_size: int = 16
    """Samples in a batch."""

    limit: int | None = None
    """Use only the first so many samples, for a quick trial."""

    num_processes: int | None = None
    """Processes that make batches; 0 makes them in this one, for debuggers and services. By default as
    many as pay for their start. No number depends on it."""

    prefetch: int = 16
    """Batches made ahead of the network, by all processes together."""

    timeout_seconds: float = 600.0
    """Give up when a data process works on one sample for longer than this; 0 waits for ever."""

    def check(self) -> None:
        self.require(self.batch_size >= 1, "batch_size", "there must be at least 1 sample in a batch")
        self.require(self.limit is None or self.limit >= 1, "limit", "must be at least 1; leave it out for all samples")
        self.require(1 <= self.prefetch <= 256, "prefetch", "must be from 1 to 256")
        self.require(self.num_processes is None or self.num_processes >= 0, "num_processes", "must be 0 (none) or more")
        self.require(self.timeout_seconds >= 0, "timeout_seconds", "must be 0 (wait for ever) or more")


class LoaderSettings(BaseLoaderSettings):
    """How the samples of one mode are chosen and made into batches."""

    search_words = {
        "shuffle_buffer": "buffer_size shuffle_buffer_size",
        "balance": "class_weight class_weights weighted_sampler",
        "resample": "sample_weight sampler",
        "buckets": "num_buckets bucket_by_length group_by_length",
        "max_batch_length": "max_tokens",
    }

    shuffle: bool = False
    """Read the samples in an order drawn from the seed, another one in each pass over them."""

    shuffle_buffer: int | None = None
    """Samples that are shuffled together after a StreamProcessor, or of a source without an index: more mix better
    and take more memory. By default 1,000, or fewer that fill 256 MB. All other sources are shuffled as a whole."""

    cache: Literal["none", "memory", "disk"] = "none"
    """Keep processed samples, as far as their processing is not random: in memory that all processes
    share, or in a file that goes away with the run."""

    filter: list[Filter] = []
    """Conditions for a sample to be used, one after another, checked before anything is processed."""

    balance: Literal["none", "loss", "sample"] = "none"
    """For classes of different sizes: weigh the loss of each sample by n_total / (n_classes * n_in_class),
    or draw all classes equally often."""

    resample: Resample | None = None
    """Draw samples so that a target has this distribution."""

    buckets: int = 0
    """Make batches of samples of about one length: so many buckets with equally many samples; 0 for none."""

    bucket_boundaries: list[int] = []
    """Lengths at which a new bucket begins, instead of equally many samples in each."""

    max_batch_length: int | None = None
    """Most that a batch may hold after padding, as samples times longest; long samples come in smaller
    batches then."""

    def check(self) -> None:
        super().check()
        self.require(self.shuffle_buffer is None or self.shuffle_buffer >= 1, "shuffle_buffer", "must be at least 1")
        self.require(self.buckets >= 0, "buckets", "must be 0 (none) or more")
        boundaries = self.bucket_boundaries
        rising = all(a < b for a, b in pairwise(boundaries))
        self.require(rising, "bucket_boundaries", "must rise")
        self.require(not (boundaries and self.buckets), "bucket_boundaries", "contradicts buckets; give one of them")
        self.require(
            self.max_batch_length is None or self.max_batch_length >= 1, "max_batch_length", "must be at least 1"
        )
        drawn = "resample" if self.resample is not None else "balance" if self.balance == "sample" else ""
        self.require(
            not (self.resample is not None and self.balance == "sample"),
            "balance",
            "contradicts resample: both say how often a sample is drawn",
        )
        self.require(
            not (drawn and self.has_buckets),
            drawn or "resample",
            "cannot be combined with length buckets, whose batches hold each sample once",
        )

    @property
    def has_buckets(self) -> bool:
        """Return whether batches are made by length."""
        return bool(self.buckets or self.bucket_boundaries or self.max_batch_length)


class TrainLoaderSettings(LoaderSettings):
    """Batches for training."""

    search_words = {
        "folds": "k_folds num_folds n_splits cross_validation",
    }

    shuffle: bool = True
    """Draw the samples in another order in each pass over them."""

    folds: int = 0
    """Cross-validation: cut the training samples into so many parts and validate on one of them, instead of
    on the validation data. 0 for none."""

    fold: int = 1
    """The part to validate on, from 1; each needs a training of its own, and their exports can vote."""

    def ignored_params(self) -> Mapping[str, str]:
        none = {} if self.folds else {"fold": "there are no folds (--train.folds)"}
        return {**super().ignored_params(), **none}

    def check(self) -> None:
        super().check()
        self.require(self.folds == 0 or self.folds >= 2, "folds", "must be 0 (none) or at least 2")
        self.require(self.folds == 0 or 1 <= self.fold <= self.folds, "fold", f"must be from 1 to {self.folds}")


class ValLoaderSettings(LoaderSettings):
    """Batches for validation: every sample once, unless they are drawn by weights."""

    batch_size: int = 64
    """Samples in a batch."""


class LavLoaderSettings(ValLoaderSettings):
    """Batches for load-and-validate: every sample once, unless they are drawn by weights."""


class PredictLoaderSettings(BaseLoaderSettings):
    """Batches for prediction: every sample once, in its order."""

    batch_size: int = 64
    """Samples in a batch."""
