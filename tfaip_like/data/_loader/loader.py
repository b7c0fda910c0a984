"""The batches of a run, from its source to the network, in this process or in others.

Training reads an endless stream of batches, each a pure function of the seed and its number; so it
opens at any place in constant time, and the number of processes changes nothing in any batch.
Where samples are made in groups (see `streams`), it opens at the places that it has noted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.batch_tasks import MakeBatches
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.counting import Counted
from tfaip_like.data._loader.dropped import DropReport
from tfaip_like.data._loader.preparation import Preparation
from tfaip_like.data._loader.producer import Makers
from tfaip_like.data._loader.sample_reader import Samples
from tfaip_like.data._loader.sampler import BucketBatches, EqualBatches
from tfaip_like.data._loader.streams import Bookmark, Marked
from tfaip_like.data._sample import Mode
from tfaip_like.data._settings import DataSettings
from tfaip_like.data._workers.background import call_in_thread
from tfaip_like.data._workers.process import Work

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
        counted: what a pass is known to have, where samples are made in groups; by default it is counted.
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
        counted: Counted | None = None,
    ):
        self.settings = settings
        self.group = group
        self.accumulate = accumulate
        self._check_stop = check
        self._is_closed = False
        self.makers = Makers(settings, group, self._check)
        self.batch_size = settings.batch_size
        samples = Samples(data, source, mode, seed)
        self.dropped = DropReport(f"--{group}")
        counts = mode is Mode.TRAIN and samples_per_epoch is None
        prepared = Preparation(samples, settings, group, self.dropped, self._check, counts, counted)
        self.samples = prepared.samples
        self.order = prepared.order
        self.batching = prepared.batching
        self.stream = prepared.stream
        self.counted = prepared.counted
        self.bad = prepared.bad
        """Samples that were found to be bad before any batch was made."""
        self._steps_of_a_task = 0
        self._example: tuple[Batch, float] | None = None
        if samples_per_epoch is not None and samples_per_epoch < self.batch_size * accumulate:
            times = f" times --trainer.accumulate_steps {accumulate}" if accumulate > 1 else ""
            raise UsageError(
                f"--trainer.samples_per_epoch {samples_per_epoch}: less than one batch (--train.batch_size "
                f"{self.batch_size}{times})"
            )
        self.steps_per_epoch = self._steps_per_epoch(samples_per_epoch) if mode is Mode.TRAIN else 0

    def _steps_per_epoch(self, samples_per_epoch: int | None) -> int:
        if samples_per_epoch is None and self.order is None:
            name = type(self.samples.data).__name__
            raise UsageError(f"--trainer.samples_per_epoch is required: the source of {name} has no length")
        if self.batching is not None:
            batches = self.batching.steps_of(samples_per_epoch or len(self))
        elif self.counted is not None:
            batches = round((samples_per_epoch or len(self)) * self.counted.batches / len(self))
        else:
            assert samples_per_epoch is not None
            batches = samples_per_epoch // self.batch_size
        return max(1, batches // self.accumulate)

    def __len__(self) -> int:
        """Return the number of samples of a pass; 0 if it is not known."""
        if self.stream is not None:
            return self.counted.samples if self.counted is not None else 0
        return len(self.order) if self.order is not None else 0

    @property
    def steps(self) -> int | None:
        """Number of batches of one pass, if no sample is dropped; None if it is not known."""
        if self.batching is not None:
            return sum(1 for _ in self.batching.once())
        return None if self.counted is None else self.counted.batches

    @property
    def samples_per_epoch(self) -> int:
        """Number of training samples in an epoch; about so many, where batches differ in size."""
        batches = self.steps_per_epoch * self.accumulate
        if isinstance(self.batching, BucketBatches):
            return round(batches * len(self) / self.batching.batches_per_pass)
        if self.counted is not None and self.settings.has_buckets:
            return round(batches * self.counted.samples / self.counted.batches)
        return batches * self.batch_size

    @property
    def is_stacked(self) -> bool:
        """Return whether `training` gives several batches at once, as arrays with one more axis in front."""
        is_equal = isinstance(self.batching, EqualBatches)
        return is_equal and self.samples.is_static and self.samples.mode is Mode.TRAIN

    # Where it continues.

    def stream_state(self, step: int) -> dict[str, Any] | None:
        """Return what a checkpoint before a training step keeps, as JSON values; None if nothing needs to be kept."""
        if self.stream is None:
            return None
        number, bookmark = self.stream.bookmark(step * self.accumulate)
        counted = self.counted and [self.counted.raw, self.counted.samples, self.counted.batches]
        return {"counted": counted, "batch": number, "bookmark": bookmark.to_json()}

    def continue_at(self, step: int, kept: Mapping[str, Any] | None, is_same: bool) -> None:
        """Begin at a training step without making the samples before it.

        Args:
            kept: what `stream_state` returned; None if samples had an index then.
            is_same: whether batches are those of then; if not, the next pass begins.
        """
        if self.stream is None:
            return
        if kept is not None and is_same:
            self.stream.keep(kept["batch"], Bookmark.from_json(kept["bookmark"]))
            return
        done = Bookmark.from_json(kept["bookmark"]).data_pass if kept is not None else step // self.steps_per_epoch
        logger.info("reading begins with the next pass over the samples, as they are made differently now")
        self.stream.keep(step * self.accumulate, Bookmark(done + 1))

    # Batches.

    def batch(self, number: int) -> Batch:
        """A batch of the endless stream of training, made in this process."""
        if self.batching is not None:
            draw = self.batching.draw(number)
            return self._call(lambda: self.samples.batch(draw))
        if number == 0:
            return self._first_of_stream()
        return self._call(lambda: next(self._marked(number, number + 1, in_this_process=True)))

    def first_epoch(self) -> Iterator[Batch]:
        """Yield the batches of the first epoch of training one by one, each with its indices and meta."""
        end = self.steps_per_epoch * self.accumulate
        if self.batching is None:
            return self._marked(0, end)
        batching = self.batching
        return self._run(MakeBatches(self.samples, stacked=False), ([batching.draw(number)] for number in range(end)))

    def batches_of_step(self, step: int) -> list[Batch]:
        """The batches of a training step, made in this process."""
        return [self.batch(step * self.accumulate + part) for part in range(self.accumulate)]

    def training(self, first: int, end: int, at_once: int | None = None, stop_every: int = 0) -> Iterator[Batch]:
        """The training batches from step `first` up to `end`, stacked as `executions` says if `is_stacked`.

        Args:
            at_once: most steps in a stack; by default as many as are quickly made.
            stop_every: see `executions`.
        """
        made = self._training(first, end, at_once, stop_every)
        left = self._batches_to_report
        for batch in made:
            self.dropped.note(batch.dropped, self.samples.place)
            yield batch
            before, left = left, left - (len(batch) if self.is_stacked else 1)
            if before > 0 >= left:
                self.dropped.log(self._num_raw)

    def _training(self, first: int, end: int, at_once: int | None, stop_every: int) -> Iterator[Batch]:
        if self.batching is None:
            yield from self._marked(first * self.accumulate, end * self.accumulate)
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
        """Return the first batch of a pass, made in this process; None if there is none."""
        if self.batching is not None:
            draw = next(self.batching.once())
            return self._call(lambda: self.samples.batch(draw))
        return self._call(lambda: next(self._pass_of_stream(in_this_process=True), None))

    def once(self) -> Iterator[Batch]:
        """Yield all batches of one pass; the last one may be smaller, and so may those with dropped samples."""
        if self.batching is None:
            made = self._pass_of_stream()
        else:
            tasks = ([draw] for draw in self.batching.once())
            made = self._run(MakeBatches(self.samples, stacked=False), tasks)
        for batch in made:
            self.dropped.note(batch.dropped, self.samples.place)
            yield batch
        self.dropped.log(self._num_raw)

    @property
    def _num_raw(self) -> int | None:
        """Number of samples of the source that are used; None if it is not known."""
        return len(self.order) if self.order is not None else None

    @property
    def _batches_to_report(self) -> int:
        """Number of batches after which it is reported what was dropped: an epoch, or a pass if that is as long."""
        of_epoch, of_pass = self.steps_per_epoch * self.accumulate, self.steps
        return of_pass if of_pass is not None and 0 <= of_pass - of_epoch <= self.accumulate else of_epoch

    def _first_of_stream(self) -> Batch:
        """Return the first batch of a training, and note how long a batch takes; made once."""
        if self._example is None:
            begin = time.perf_counter()
            batch = self._call(lambda: next(self._marked(0, 1, in_this_process=True)))
            # A whole block was made for it.
            assert self.stream is not None
            part = min(1.0, len(batch) / max(1, self.stream.block_size))
            self._example = batch, part * (time.perf_counter() - begin)
        return self._example[0]

    def _marked(self, first: int, end: int, in_this_process: bool = False) -> Iterator[Batch]:
        """Yield batches of the endless stream, from the nearest place on of which it is known where it begins."""
        assert self.stream is not None
        number, begin = self.stream.bookmark(first)
        for batch, next_begin in self._of_stream(begin, is_endless=True, in_this_process=in_this_process):
            number += 1
            self.stream.keep(number, next_begin)
            if number > first:
                yield batch
            if number == end:
                return

    def _pass_of_stream(self, in_this_process: bool = False) -> Iterator[Batch]:
        return (batch for batch, _ in self._of_stream(Bookmark(), False, in_this_process))

    def _of_stream(self, begin: Bookmark, is_endless: bool, in_this_process: bool) -> Iterator[Marked]:
        assert self.stream is not None
        chain, work = self.stream.chain(begin, is_endless), self.stream.work()
        if in_this_process:
            return self.stream.batches(chain.results(work), begin)
        results = map(chain.take, self.makers.run(work, chain.tasks()))
        return self.stream.batches((made for made in results if made is not None), begin)

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
        """Choose the number of data processes for a number of batches, unless the user has."""
        if self.settings.num_processes is None and not self.samples.is_plain:
            begin = time.perf_counter()
            if self.batching is None and self.samples.mode is Mode.TRAIN:
                self._first_of_stream()
                assert self._example is not None
                seconds = self._example[1]
            else:
                self.first_of_pass()
                seconds = time.perf_counter() - begin
            self.makers.decide(seconds * steps)

    def close(self) -> None:
        """End the data processes, and the wait of other threads for a batch; report what was dropped lately."""
        self.dropped.log(self._num_raw)
        self._is_closed = True
        self.makers.close()
