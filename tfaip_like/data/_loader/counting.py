"""Number of samples and their classes in a pass, for pipelines where this is known only after processing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data._loader.dropped_samples import DroppedSample, all_dropped_error
from tfaip_like.data._loader.groups import GroupBuilder, GroupResult, SampleGroup
from tfaip_like.data._loader.streams import Block, Bookmark, Stream
from tfaip_like.data._workers.parallel_map import map_tasks

logger = logging.getLogger(__name__)

HINT_AFTER_S = 5.0


@dataclass(frozen=True)
class PassCounts:
    """Counts of a pass over the data."""

    raw: int
    """Number of source samples; 0 if unknown."""
    samples: int
    """Number of processed samples."""
    batches: int
    classes: Counter[Hashable] = field(default_factory=Counter)
    """Number of samples of each class, if requested."""


def count_pass(stream: Stream, check: Callable[[], None]) -> PassCounts:
    """Process the samples of the first pass and count them.

    Augmentation may change the number of samples in each pass; the counts of the first pass are used for all.

    Args:
        stream: stream to count.
        check: called while waiting; raises to stop.

    Raises:
        UsageError: if there are no samples.
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
        hint = f" (counted in {seconds:.0f} s; set --trainer.samples_per_epoch {samples} to skip this)"
    logger.info("--%s: %s -> %s per pass%s", group, _describe_source(stream), pluralize(samples, "sample"), hint)
    return PassCounts(len(stream.order or ()), samples, batches, classes)


def _iter_results(stream: Stream, work: GroupBuilder, check: Callable[[], None]) -> Iterator[GroupResult]:
    chain = stream.chain(Bookmark(), is_endless=False)
    total = len(stream.order) if stream.order is not None else None
    with sample_progress_bar(total, f"counting --{stream.group} samples", delay_s=1) as bar:

        def tasks() -> Iterator[SampleGroup | None]:
            for group in chain.tasks():
                yield group
                if group is not None and group.level == 0:
                    bar.update(len(group.rows))

        num_groups = 1 if total is None else max(1, total // stream.sizes[0])
        for result in map_tasks(work, tasks(), num_groups, stream.settings, check):
            if (finished := chain.add_result(result)) is not None:
                yield finished


def _count_classes(results: Iterator[GroupResult], classes: Counter[Hashable]) -> Iterator[GroupResult]:
    for result in results:
        classes.update(result.classes)
        yield result


def _num_batches(stream: Stream, block: Block) -> int:
    return len(stream.split_block_by_length(block)) if stream.settings.has_buckets else 0


def _describe_source(stream: Stream) -> str:
    return pluralize(len(stream.order), "source sample") if stream.order is not None else "source samples"
