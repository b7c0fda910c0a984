"""The batches of a run, from its source to the network, in this process or in others.

Training reads an endless stream of batches, each a pure function of the seed and its number; so it
opens at any place in constant time, and the number of processes changes nothing in any batch.
Where samples can only be read one after another (see `streams`), it reads from the beginning.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np

from tfaip_like.data.batching import Batch
from tfaip_like.data.cache import fill_cache
from tfaip_like.data.data import Data, Source
from tfaip_like.data.make_batches import MakeBatches
from tfaip_like.data.order import INDEX, Batching, BucketBatches, EqualBatches, Order, equal_boundaries
from tfaip_like.data.samples import Samples
from tfaip_like.data.selection import Selection, select
from tfaip_like.data.settings import DataSettings
from tfaip_like.data.streams import MakeGroups, batches_of, groups_of_pass
from tfaip_like.data.workers.many import processes_that_pay
from tfaip_like.data.workers.pool import Workers
from tfaip_like.data.workers.process import Work
from tfaip_like.errors import UsageError
from tfaip_like.sample import Mode

logger = logging.getLogger(__name__)

PLAIN_STEPS = 64
"""Batches that are cut out of arrays at once."""
MOST_STEPS_OF_A_TASK = 64
SECONDS_OF_A_TASK = 0.05
BYTES_OF_A_TASK = 2**20
STREAM = "it can only be read from its beginning on"


def no_check() -> None:
    """Asks nobody whether to stop."""


class Batches:
    """The batches of one mode.

    Args:
        group: of the flags: `train`, `val`, `lav`.
        check: called while waiting for data processes; raises to stop.
    """

    def __init__(
        self,
        data: Data,
        source: Source,
        settings: DataSettings,
        mode: Mode,
        seed: int,
        group: str,
        samples_per_epoch: int | None = None,
        check: Callable[[], None] = no_check,
    ):
        self.settings = settings
        self.group = group
        self.check = check
        self.batch_size = settings.batch_size
        self.samples = Samples(data, source, mode, seed)
        self.waits = 0.0
        """Seconds that were spent waiting for data processes, or making batches in this one."""
        self._workers: Workers | None = None
        self._processes: int | None = settings.num_processes
        self._steps_of_a_task = PLAIN_STEPS if self.samples.is_plain else 0
        self.order: Order | None = None
        self.batching: Batching | None = None
        if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            self._select(seed)
        else:
            self._refuse_choice()
        if samples_per_epoch is not None and samples_per_epoch < self.batch_size:
            raise UsageError(
                f"--trainer.samples_per_epoch {samples_per_epoch}: less than one batch (--train.batch_size "
                f"{self.batch_size})"
            )
        self.steps_per_epoch = self._steps_per_epoch(samples_per_epoch) if mode is Mode.TRAIN else 0

    # What is known before any batch is made.

    def _select(self, seed: int) -> None:
        chosen = select(self.samples, self.settings, self.group)
        self.samples.indices = chosen.indices
        self.samples.loss_weights = chosen.loss_weights
        self.samples.check_first(int(chosen.indices[0]))
        self.order = Order(chosen.indices, seed, self.settings.shuffle, chosen.draw_weights)
        if self.settings.cache != "none" and not self.samples.is_plain:
            self.samples.cache = fill_cache(self.samples, self.settings, self.group)
        if not self.samples.is_stream:
            self.batching = self._batching(chosen)

    def _batching(self, chosen: Selection) -> Batching:
        assert self.order is not None
        if chosen.lengths is None:
            return EqualBatches(self.order, self.batch_size)
        settings = self.settings
        buckets = settings.buckets or 10
        boundaries = settings.bucket_boundaries or equal_boundaries(chosen.lengths, buckets)
        return BucketBatches(self.order, self.batch_size, chosen.lengths, boundaries, settings.max_batch_length)

    def _refuse_choice(self) -> None:
        """What needs to know all samples beforehand."""
        settings, name = self.settings, type(self.samples.data).__name__
        asked = {
            "filter": bool(settings.filter),
            "balance": settings.balance != "none",
            "resample": settings.resample is not None,
            "buckets": settings.has_buckets,
            "cache": settings.cache != "none",
        }
        for field, is_asked in asked.items():
            if is_asked:
                raise UsageError(f"--{self.group}.{field}: the source of {name} has no length and index, {STREAM}")

    def _steps_per_epoch(self, samples_per_epoch: int | None) -> int:
        if samples_per_epoch is None and self.order is None:
            name = type(self.samples.data).__name__
            raise UsageError(f"--trainer.samples_per_epoch is required: the source of {name} has no length")
        count = samples_per_epoch or len(self.order or ())
        return self.batching.steps_of(count) if self.batching else max(1, count // self.batch_size)

    def __len__(self) -> int:
        """Number of samples that are used; 0 if it is not known."""
        return len(self.order) if self.order is not None else 0

    @property
    def steps(self) -> int | None:
        """Number of batches of one pass, if no sample is dropped; None if it is not known."""
        if self.batching is None:
            return None
        return sum(1 for _ in self.batching.once())

    @property
    def is_exact(self) -> bool:
        """Whether a pass has `steps` batches for certain: nothing can be dropped from plain arrays."""
        return self.samples.is_plain

    @property
    def is_stacked(self) -> bool:
        """Whether `training` gives several batches at once, as arrays with one more axis in front."""
        is_equal = isinstance(self.batching, EqualBatches)
        return is_equal and self.samples.is_static and self.samples.mode is Mode.TRAIN

    # Batches.

    def batch(self, step: int) -> Batch:
        """The training batch of a step, made in this process."""
        if self.batching is not None:
            return self.samples.batch(self.batching.draw(step))
        return next(itertools.islice(self._stream_of_training(no_workers=True), step, None))

    def training(self, first: int, end: int) -> Iterator[Batch]:
        """The training batches from step `first` up to `end`, stacked if `is_stacked`."""
        if self.batching is None:
            yield from itertools.islice(self._stream_of_training(), first, end)
            return
        batching = self.batching
        at_once = self.steps_of_a_task(end - first) if self.is_stacked else 1
        tasks = (
            [batching.draw(step) for step in range(begin, min(begin + at_once, self._epoch_end(begin), end))]
            for begin in self._begins(first, end, at_once)
        )
        yield from self._results(MakeBatches(self.samples, self.is_stacked), tasks, at_once)

    def once(self) -> Iterator[Batch]:
        """All batches of one pass; the last one may be smaller, and so may those with dropped samples."""
        if self.batching is None:
            made = self._results(MakeGroups(self.samples), self._groups(0), 1)
            yield from batches_of(self.samples, made, self.batch_size)
            return
        tasks = ([draw] for draw in self.batching.once())
        yield from self._results(MakeBatches(self.samples, stacked=False), tasks, 1)

    def _begins(self, first: int, end: int, at_once: int) -> Iterator[int]:
        begin = first
        while begin < end:
            yield begin
            begin = min(begin + at_once, self._epoch_end(begin), end)

    def _epoch_end(self, step: int) -> int:
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch

    def _groups(self, data_pass: int) -> Iterator[Any]:
        return groups_of_pass(self.samples, self.order, data_pass, self.settings.limit)

    def _stream_of_training(self, no_workers: bool = False) -> Iterator[Batch]:
        groups = itertools.chain.from_iterable(self._groups(data_pass) for data_pass in itertools.count())
        work = MakeGroups(self.samples)
        made = map(work, groups) if no_workers else self._results(work, groups, 1)
        return batches_of(self.samples, made, self.batch_size)

    # Where they are made.

    def steps_of_a_task(self, steps: int) -> int:
        """Batches that are made at once: enough of them that handing them over costs nothing."""
        if self._steps_of_a_task == 0:
            begin = time.perf_counter()
            size = self.batch(0).nbytes()
            seconds = time.perf_counter() - begin
            fit = min(SECONDS_OF_A_TASK / seconds, BYTES_OF_A_TASK / max(size, 1), MOST_STEPS_OF_A_TASK)
            self._steps_of_a_task = max(1, int(fit))
        return max(1, min(self._steps_of_a_task, steps))

    def processes(self, steps: int) -> int:
        """How many data processes there are for so many steps."""
        if self._processes is None:
            self._processes = 0 if self.samples.is_plain else processes_that_pay(self._seconds_of_a_batch() * steps)
            if self._processes:
                logger.info("--%s.num_processes %d, because that pays", self.group, self._processes)
        return self._processes

    def _seconds_of_a_batch(self) -> float:
        if self.batching is None:
            return 0.0
        draw = next(self.batching.once())
        begin = time.perf_counter()
        self.samples.batch(draw)
        return time.perf_counter() - begin

    @property
    def running_workers(self) -> Workers | None:
        """The data processes, if they were started."""
        return self._workers

    def workers(self, work: Work, at_once: int) -> Workers | None:
        """The data processes, started if they are not; None if there are none."""
        count = self._processes
        if not count or self.samples.is_plain:
            return None
        if self._workers is None:
            ahead = max(count + 1, self.settings.prefetch // at_once)
            self._workers = Workers(work, count, ahead, self.settings.timeout_seconds, self.check)
        return self._workers

    def _results(self, work: Any, tasks: Iterable[Any], at_once: int) -> Iterator[Any]:
        if workers := self.workers(work, at_once):
            waited = workers.waits
            for result in workers.run(tasks):
                self.waits += workers.waits - waited
                waited = workers.waits
                yield result
            return
        for task in tasks:
            begin = time.perf_counter()
            made = work(task)
            self.waits += time.perf_counter() - begin
            yield made

    def close(self) -> None:
        """Ends the data processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def non_finite(self, step: int) -> str | None:
        """Where the data of a training step hold NaN or infinity, in words; None if they do not."""
        batch = self.batch(step)
        for kind, arrays in (("input", batch.inputs), ("target", batch.targets)):
            for name, array in arrays.items():
                if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                    first = next(i for i, row in enumerate(array) if not np.isfinite(row).all())
                    which = f"sample {self._index(step, first)}" if self.batching else "a sample"
                    return f"{kind} {name!r} of training {which}"
        return None

    def _index(self, step: int, place: int) -> int:
        assert self.batching is not None
        return int(self.batching.draw(step)[place, INDEX])


def open_training(
    data: Data,
    source: Source | None,
    settings: DataSettings,
    samples_per_epoch: int | None,
    seed: int,
    check: Callable[[], None] = no_check,
) -> Batches:
    """Opens the training data.

    Raises:
        UsageError: when there is none, or its first sample does not fit its specification.
    """
    if source is None or is_empty(checked(source, data, Mode.TRAIN)):
        raise UsageError(f"{type(data).__name__}.source({Mode.TRAIN}) has no samples to train on")
    return Batches(data, source, settings, Mode.TRAIN, seed, "train", samples_per_epoch, check)


def open_validation(
    data: Data,
    source: Source | None,
    settings: DataSettings,
    seed: int,
    check: Callable[[], None] = no_check,
    group: str = "val",
) -> Batches | None:
    """Opens the validation data; None if the scenario has none."""
    if source is None or is_empty(checked(source, data, Mode.EVALUATE)):
        return None
    return Batches(data, source, settings, Mode.EVALUATE, seed, group, None, check)


def is_empty(source: Source) -> bool:
    """Whether it is known to have no samples."""
    return isinstance(source, Sized) and len(source) == 0


def checked(source: Source, data: Data, mode: Mode) -> Source:
    """The source, if it is one."""
    if hasattr(source, "__iter__") or (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        return source
    raise UsageError(
        f"{type(data).__name__}.source({mode}) returned a {type(source).__name__}; it must have a length and an "
        "index (a list of Sample, an ArraySource, or a class of your own with __len__ and __getitem__), or be iterable"
    )
