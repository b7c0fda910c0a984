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
from typing import Any, TypeVar

from tfaip_like.data.batching import BadSample, Batch
from tfaip_like.data.cache import fill_cache
from tfaip_like.data.data import Data, Source
from tfaip_like.data.make_batches import MakeBatches
from tfaip_like.data.makers import Makers
from tfaip_like.data.order import Batching, BucketBatches, EqualBatches, Order, equal_boundaries
from tfaip_like.data.samples import Samples
from tfaip_like.data.selection import Selection, select
from tfaip_like.data.settings import DataSettings
from tfaip_like.data.streams import GROUP, MakeGroups, batches_of, endless, groups_of_pass
from tfaip_like.data.workers.background import call_in_thread
from tfaip_like.data.workers.process import Work
from tfaip_like.errors import UsageError
from tfaip_like.sample import Mode

logger = logging.getLogger(__name__)

T = TypeVar("T")

PLAIN_STEPS = 64
"""Batches that are cut out of arrays at once."""
SECONDS_OF_A_TASK = 0.05
BYTES_OF_A_TASK = 2**20


def no_check() -> None:
    """Asks nobody whether to stop."""


class ClosedError(Exception):
    """Raised where a batch is awaited that nobody needs any more."""


class Batches:
    """The batches of one mode.

    Args:
        group: of the flags: `train`, `val`, `lav`.
        check: called while waiting for samples; raises to stop.
        accumulate: batches that make one training step.
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
        accumulate: int = 1,
    ):
        self.settings = settings
        self.group = group
        self.accumulate = accumulate
        self._check_stop = check
        self._is_closed = False
        self.makers = Makers(settings, group, self._check)
        self.batch_size = settings.batch_size
        self.samples = Samples(data, source, mode, seed)
        self._steps_of_a_task = 0
        self.bad: list[BadSample] = []
        """Samples that were found to be bad before any batch was made."""
        self.order: Order | None = None
        self.batching: Batching | None = None
        if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            if self.samples.is_stream:
                self._refuse(
                    "goes through a StreamProcessor, so what comes out is not known beforehand", all_of_it=False
                )
            self._select(seed)
        else:
            self._refuse("has no length and index, it can only be read from its beginning on", all_of_it=True)
            if settings.shuffle:
                logger.info("--%s.shuffle has no effect: the source has no index, its order is kept", group)
        if samples_per_epoch is not None and samples_per_epoch < self.batch_size * accumulate:
            times = f" times --trainer.accumulate_steps {accumulate}" if accumulate > 1 else ""
            raise UsageError(
                f"--trainer.samples_per_epoch {samples_per_epoch}: less than one batch (--train.batch_size "
                f"{self.batch_size}{times})"
            )
        self.steps_per_epoch = self._steps_per_epoch(samples_per_epoch) if mode is Mode.TRAIN else 0

    # What is known before any batch is made.

    def _select(self, seed: int) -> None:
        chosen = select(self.samples, self.settings, self.group, self._check)
        self.bad = list(chosen.bad)
        self.samples.indices = chosen.indices
        self.samples.loss_weights = chosen.loss_weights
        self._call(lambda: self.samples.check_first(int(chosen.indices[0])))
        if chosen.lengths is not None and self.samples.is_static:
            raise UsageError(f"--{self.group}: all samples have one shape, so there is no use for length buckets")
        self.order = Order(chosen.indices, seed, self.settings.shuffle, chosen.draw_weights)
        if self.settings.cache != "none" and not self.samples.is_plain:
            self.samples.cache = fill_cache(self.samples, self.settings, self.group, self._check)
            self.bad += self.samples.cache.bad
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

    def _refuse(self, why: str, all_of_it: bool) -> None:
        """Refuses settings that need to know all samples beforehand: as the source has them, or processed."""
        settings, name = self.settings, type(self.samples.data).__name__
        asked = {
            "cache": settings.cache != "none",
            "buckets": settings.has_buckets,
            "balance": settings.balance == "loss" or (all_of_it and settings.balance != "none"),
            "filter": all_of_it and bool(settings.filter),
            "resample": all_of_it and settings.resample is not None,
        }
        for field, is_asked in asked.items():
            if is_asked:
                raise UsageError(f"--{self.group}.{field} cannot be had: the source of {name} {why}")

    def _steps_per_epoch(self, samples_per_epoch: int | None) -> int:
        if samples_per_epoch is None and self.order is None:
            name = type(self.samples.data).__name__
            raise UsageError(f"--trainer.samples_per_epoch is required: the source of {name} has no length")
        count = samples_per_epoch or len(self.order or ())
        batches = self.batching.steps_of(count) if self.batching else max(1, count // self.batch_size)
        return max(1, batches // self.accumulate)

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
    def samples_per_epoch(self) -> int:
        """Number of training samples in an epoch; about so many, where batches differ in size."""
        batches = self.steps_per_epoch * self.accumulate
        if isinstance(self.batching, BucketBatches):
            return round(batches * len(self) / self.batching.batches_per_pass)
        return batches * self.batch_size

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

    def batch(self, number: int) -> Batch:
        """A batch of the endless stream of training, made in this process."""
        if self.batching is not None:
            draw = self.batching.draw(number)
            return self._call(lambda: self.samples.batch(draw))
        return self._call(lambda: next(itertools.islice(self._stream_of_training(no_workers=True), number, None)))

    def batches_of_step(self, step: int) -> list[Batch]:
        """The batches of a training step, made in this process."""
        return [self.batch(step * self.accumulate + part) for part in range(self.accumulate)]

    def training(self, first: int, end: int, at_once: int | None = None, stop_every: int = 0) -> Iterator[Batch]:
        """The training batches from step `first` up to `end`, stacked as `executions` says if `is_stacked`.

        Args:
            at_once: most steps in a stack; by default as many as are quickly made.
            stop_every: see `executions`.
        """
        if self.batching is None:
            accumulate = self.accumulate
            yield from itertools.islice(self._stream_of_training(), first * accumulate, end * accumulate)
            return
        batching = self.batching
        at_once = (at_once or self.steps_of_a_task(end - first)) if self.is_stacked else 1
        draws = (
            [batching.draw(number) for number in range(steps.start * self.accumulate, steps.stop * self.accumulate)]
            for steps in self.executions(first, end, at_once, stop_every)
        )
        tasks = draws if self.is_stacked else ([draw] for step in draws for draw in step)
        yield from self._run(MakeBatches(self.samples, self.is_stacked), tasks, at_once * self.accumulate)

    def executions(self, first: int, end: int, at_once: int, stop_every: int = 0) -> Iterator[range]:
        """The steps from `first` up to `end` in ranges of at most `at_once` that go over no end of an epoch
        and no multiple of `stop_every`."""
        begin = first
        while begin < end:
            stops = [begin + at_once, (begin // self.steps_per_epoch + 1) * self.steps_per_epoch, end]
            if stop_every:
                stops.append((begin // stop_every + 1) * stop_every)
            yield range(begin, min(stops))
            begin = min(stops)

    def first_of_pass(self) -> Batch | None:
        """The first batch of a pass, made in this process; None if there is none."""
        if self.batching is not None:
            draw = next(self.batching.once())
            return self._call(lambda: self.samples.batch(draw))
        made = map(MakeGroups(self.samples), self._groups(0))
        return self._call(lambda: next(batches_of(self.samples, made, self.batch_size), None))

    def once(self) -> Iterator[Batch]:
        """All batches of one pass; the last one may be smaller, and so may those with dropped samples."""
        if self.batching is None:
            made = self._run(MakeGroups(self.samples), self._groups(0))
            yield from batches_of(self.samples, made, self.batch_size)
            return
        tasks = ([draw] for draw in self.batching.once())
        yield from self._run(MakeBatches(self.samples, stacked=False), tasks)

    def _groups(self, data_pass: int) -> Iterator[Any]:
        is_answered_at_once = self.samples.mode is Mode.PREDICT  # whoever sends samples one by one waits for answers
        size = min(GROUP, self.batch_size) if is_answered_at_once else GROUP
        return groups_of_pass(self.samples, self.order, data_pass, self.settings.limit, size)

    def _stream_of_training(self, no_workers: bool = False) -> Iterator[Batch]:
        work = MakeGroups(self.samples)
        groups = endless(self._groups, type(self.samples.data).__name__)
        made = map(work, groups) if no_workers else self._run(work, groups)
        return batches_of(self.samples, made, self.batch_size)

    def _run(self, work: Work, tasks: Iterable[Any], at_once: int = 1) -> Iterator[Any]:
        # Handing plain rows from process to process would take longer than cutting them.
        return map(work, tasks) if self.samples.is_plain else self.makers.run(work, tasks, at_once)

    def _call(self, make: Callable[[], T]) -> T:
        """Return what `make` returns; can be stopped where user code is called."""
        return make() if self.samples.is_plain else call_in_thread(make, self._check)

    def _check(self) -> None:
        self._check_stop()
        if self._is_closed:
            raise ClosedError

    def steps_of_a_task(self, steps: int) -> int:
        """Steps whose batches are made at once: enough of them that handing them over costs nothing."""
        if self.samples.is_plain:
            return max(1, min(PLAIN_STEPS, steps))
        if self._steps_of_a_task == 0:
            begin = time.perf_counter()
            size = self.batch(0).nbytes()
            seconds = time.perf_counter() - begin
            fit = min(SECONDS_OF_A_TASK / seconds, BYTES_OF_A_TASK / max(size, 1), self.makers.most_at_once)
            self._steps_of_a_task = max(1, int(fit / self.accumulate))
        return max(1, min(self._steps_of_a_task, steps))

    def decide_processes(self, steps: int) -> None:
        """Chooses how many data processes pay for so many batches, unless the user has."""
        if self.settings.num_processes is None and not self.samples.is_plain:
            begin = time.perf_counter()
            self.first_of_pass()
            self.makers.decide((time.perf_counter() - begin) * steps)

    def close(self) -> None:
        """End the data processes, and the wait of other threads for a batch."""
        self._is_closed = True
        self.makers.close()


def open_training(
    data: Data,
    source: Source | None,
    settings: DataSettings,
    samples_per_epoch: int | None,
    seed: int,
    check: Callable[[], None] = no_check,
    accumulate: int = 1,
) -> Batches:
    """Opens the training data.

    Raises:
        UsageError: when there is none, or its first sample does not fit its specification.
    """
    if source is None or is_empty(checked(source, data, Mode.TRAIN)):
        raise UsageError(f"{type(data).__name__}.source({Mode.TRAIN}) has no samples to train on")
    return Batches(data, source, settings, Mode.TRAIN, seed, "train", samples_per_epoch, check, accumulate)


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
    if isinstance(source, Iterator):
        raise UsageError(
            f"{type(data).__name__}.source({mode}) returned a {type(source).__name__}, which can be read only once; "
            "return a list, or an object whose __iter__ begins anew"
        )
    if hasattr(source, "__iter__") or (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        return source
    raise UsageError(
        f"{type(data).__name__}.source({mode}) returned a {type(source).__name__}; it must have a length and an "
        "index (a list of Sample, an ArraySource, or a class of your own with __len__ and __getitem__), or be iterable"
    )
