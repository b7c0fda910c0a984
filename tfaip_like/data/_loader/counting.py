"""The number of samples of a pass and their classes, where they are known only after making them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from tfaip_like._utils.errors import counted
from tfaip_like.data._loader.dropped import Dropped, no_sample_left
from tfaip_like.data._loader.groups import Group, Made, MakeGroups
from tfaip_like.data._loader.streams import Block, Bookmark, Stream
from tfaip_like.data._workers.parallel_map import progress_bar, results_of

logger = logging.getLogger(__name__)

SECONDS_TO_TELL = 5.0


@dataclass(frozen=True)
class Counted:
    """What a pass has."""

    raw: int
    """Samples of the source; 0 if that is not known."""
    samples: int
    """Samples that are made of them."""
    batches: int
    classes: Counter[Hashable] = field(default_factory=Counter)
    """Samples of each class, where classes are asked for."""


def count_pass(stream: Stream, check: Callable[[], None]) -> Counted:
    """Make the samples of the first pass, and count them.

    Augmentation may make another number of samples in each pass; the first one, a function of the seed, stands for all.

    Args:
        check: called while waiting; raises to stop.

    Raises:
        UsageError: when there is no sample.
    """
    settings, group = stream.settings, stream.group
    work = MakeGroups(
        stream.samples, measures=settings.has_buckets, facts_only=True, classify=settings.balance == "loss"
    )
    begin = time.perf_counter()
    classes: Counter[Hashable] = Counter()
    samples = batches = 0
    dropped: Sequence[Dropped] = ()
    for block in stream.blocks(_noting_classes(_made(stream, work, check), classes)):
        samples += len(block.rows)
        batches += _batches_of(stream, block)
        dropped = block.dropped or dropped
    if not settings.has_buckets:
        batches = samples // settings.batch_size
    if not samples:
        raise no_sample_left(group, stream.samples.data, dropped)
    seconds = time.perf_counter() - begin
    hint = ""
    if seconds > SECONDS_TO_TELL:
        hint = f" in {seconds:.0f} s; give --trainer.samples_per_epoch {samples} to save this time"
    logger.info("--%s: %s become %s in a pass%s", group, _raw(stream), counted(samples, "sample"), hint)
    return Counted(len(stream.order or ()), samples, batches, classes)


def _made(stream: Stream, work: MakeGroups, check: Callable[[], None]) -> Iterator[Made]:
    chain = stream.chain(Bookmark(), is_endless=False)
    total = len(stream.order) if stream.order is not None else None
    with progress_bar(total, f"counting --{stream.group} samples") as bar:

        def tasks() -> Iterator[Group | None]:
            for group in chain.tasks():
                yield group
                if group is not None and group.level == 0:
                    bar.update(len(group.rows))

        parts = 1 if total is None else max(1, total // stream.sizes[0])
        for made in results_of(work, tasks(), parts, stream.settings, check):
            if (last := chain.take(made)) is not None:
                yield last


def _noting_classes(made: Iterator[Made], classes: Counter[Hashable]) -> Iterator[Made]:
    for one in made:
        classes.update(one.classes)
        yield one


def _batches_of(stream: Stream, block: Block) -> int:
    return len(stream.batches_of_block(block)) if stream.settings.has_buckets else 0


def _raw(stream: Stream) -> str:
    return counted(len(stream.order), "sample") + " of the source" if stream.order is not None else "the samples"
