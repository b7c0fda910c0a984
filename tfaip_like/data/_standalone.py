"""Processors on their own: on any samples, without a scenario."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterable, Iterator, Sequence

from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.dropped_samples import DropReport
from tfaip_like.data._loader.group_chain import GroupChain
from tfaip_like.data._loader.groups import DEFAULT_GROUP_SIZE, GroupBuilder, GroupResult, group_sizes, iter_groups
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._processors import Processor
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._workers.pool import WorkerPool


class ExternalData(Data, abc.ABC):  # which says that it is no choice for --data
    """Samples that were given, with any arrays."""

    inputs = {}

    def source(self, mode: Mode) -> Source | None:
        """Nothing: they were given."""
        return None


def process_samples(
    samples: Iterable[Sample],
    processors: Sequence[Processor],
    mode: Mode = Mode.PREDICT,
    num_processes: int = 0,
    random_seed: int = 0,
) -> Iterator[Sample]:
    """The samples after all processors of a mode, in their order.

    They are read a little ahead only, so there may be any number of them.

    Args:
        num_processes: data processes that do the work; 0: this one.
    """
    made = SampleReader(ExternalData(processors=list(processors)), samples, mode, random_seed)
    sizes = group_sizes(made.processors, DEFAULT_GROUP_SIZE)
    chain = GroupChain(iter_groups(made, None, 0, None, sizes[0]), sizes)
    dropped = DropReport("process_samples")
    for group in _iter_results(chain, made, num_processes):
        dropped.record(group.dropped, made.describe_sample)
        yield from group.samples
    dropped.log(None)


def _iter_results(chain: GroupChain, samples: SampleReader, num_processes: int) -> Iterator[GroupResult]:
    if not num_processes:
        yield from chain.results(GroupBuilder(samples))
        return
    sent = copy.copy(samples)
    sent.source = ()  # they come with the groups
    with WorkerPool(GroupBuilder(sent), num_processes, 2 * num_processes) as workers:
        for made in workers.run(chain.tasks()):
            if (last := chain.add_result(made)) is not None:
                yield last
