"""Processors applied to any samples, without a scenario."""

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
from tfaip_like.data._workers.process_pool import ProcessPool


class ExternalData(Data, abc.ABC):  # abstract classes are not offered as choices of --data
    """Data without a source, for samples with any arrays that are passed by the caller."""

    inputs = {}

    def source(self, mode: Mode) -> Source | None:
        """Return None: the samples are passed by the caller."""
        return None


def process_samples(
    samples: Iterable[Sample],
    processors: Sequence[Processor],
    mode: Mode = Mode.PREDICT,
    num_processes: int = 0,
    random_seed: int = 0,
) -> Iterator[Sample]:
    """Yield the samples after all processors of a mode, in order.

    Only a few samples are read ahead, so `samples` may be arbitrarily long.

    Args:
        samples: unprocessed samples.
        processors: processors to apply, in this order.
        mode: mode; processors of other modes are skipped.
        num_processes: number of data workers; 0 processes the samples in this process.
        random_seed: seed of the random generators passed to the processors.

    Raises:
        CodeError: if a processor returns something other than a sample or None.
    """
    reader = SampleReader(ExternalData(processors=list(processors)), samples, mode, random_seed)
    sizes = group_sizes(reader.processors, DEFAULT_GROUP_SIZE)
    chain = GroupChain(iter_groups(reader, None, 0, None, sizes[0]), sizes)
    dropped = DropReport("process_samples")
    for result in _iter_results(chain, reader, num_processes):
        dropped.record(result.dropped, reader.describe_sample)
        yield from result.samples
    dropped.log(None)


def _iter_results(chain: GroupChain, samples: SampleReader, num_processes: int) -> Iterator[GroupResult]:
    if not num_processes:
        yield from chain.results(GroupBuilder(samples))
        return
    worker_reader = copy.copy(samples)
    worker_reader.source = ()  # the groups contain the samples
    with ProcessPool(GroupBuilder(worker_reader), num_processes, 2 * num_processes) as workers:
        for result in workers.run(chain.tasks()):
            if (finished := chain.add_result(result)) is not None:
                yield finished
