"""The number of samples of a pass and their classes, where they are known only after making them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from tfaip_like._utils.errors import pluralize
from tfaip_like.data._loader.dropped_samples import DroppedSample, all_dropped_error
from tfaip_like.data._loader.groups import GroupBuilder, GroupResult, SampleGroup
from tfaip_like.data._loader.streams import Block, Bookmark, Stream
from tfaip_like.data._workers.parallel_map import map_tasks, progress_bar

logger = logging.getLogger(__name__)

HINT_AFTER_S = 5.0


@dataclass(frozen=True)
class PassCounts:
    """What a pass has."""

    raw: int
    """Samples of the source; 0 if that is not known."""
    samples: int
    """Samples that are made of them."""
    batches: int
    classes: Counter[Hashable] = field(default_factory=Counter)
    """Samples of each class, where classes are asked for."""


def count_pass(stream: Stream, check: Callable[[], None]) -> PassCounts:
    """Make the samples of the first pass, and count them.

    Augmentation may make another number of samples in each pass; the first one, a function of the seed, stands for all.

    Args:
        check: called while waiting; raises to stop.

    Raises:
        UsageError: when there is no sample.
    """
    settings, group = stream.settings, stream.group
    work = GroupBuilder(
        stream.samples, measure_lengths=settings.has_buckets, stats_only=True, collect_labels=settings.balance == "loss"
    )
    begin = time.perf_counter()
    classes: Counter[Hashable] = Counter()
    samples = batches = 0
    dropped: Sequence[DroppedSample] = ()
    for block in stream.blocks(_count_classes(_iter_results(stream, work, check), classes)):
        samples += len(block.rows)
        batches += _num_batches(stream, block)
        dropped = block.dropped or dropped
    if not settings.has_buckets:
        batches = samples // settings.batch_size
    if not samples:
        raise all_dropped_error(group, stream.samples.data, dropped)
    seconds = time.perf_counter() - begin
    hint = ""
    if seconds > HINT_AFTER_S:
        hint = f" in {seconds:.0f} s; give --trainer.samples_per_epoch {samples} to save this time"
    logger.info("--%s: %s become %s in a pass%s", group, _describe_source(stream), pluralize(samples, "sample"), hint)
    return PassCounts(len(stream.order or ()), samples, batches, classes)


def _iter_results(stream: Stream, work: GroupBuilder, check: Callable[[], None]) -> Iterator[GroupResult]:
    chain = stream.chain(Bookmark(), is_endless=False)
    total = len(stream.order) if stream.order is not None else None
    with progress_bar(total, f"counting --{stream.group} samples") as bar:

        def tasks() -> Iterator[SampleGroup | None]:
            for group in chain.tasks():
                yield group
                if group is not None and group.level == 0:
                    bar.update(len(group.rows))

        parts = 1 if total is None else max(1, total // stream.sizes[0])
        for made in map_tasks(work, tasks(), parts, stream.settings, check):
            if (last := chain.add_result(made)) is not None:
                yield last


def _count_classes(made: Iterator[GroupResult], classes: Counter[Hashable]) -> Iterator[GroupResult]:
    for one in made:
        classes.update(one.classes)
        yield one


def _num_batches(stream: Stream, block: Block) -> int:
    return len(stream.split_block_by_length(block)) if stream.settings.has_buckets else 0


def _describe_source(stream: Stream) -> str:
    return pluralize(len(stream.order), "sample") + " of the source" if stream.order is not None else "the samples"
