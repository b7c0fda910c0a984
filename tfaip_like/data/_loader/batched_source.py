"""Blocks of a source whose items are batches: regrouped as arrays, without work per sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfaip_like.data._loader.batch_processing import fit_to_specs
from tfaip_like.data._loader.batching import Batch, concatenate
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.source_passes import SourcePasses
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._settings import LoaderSettings


def needs_no_work_per_sample(samples: SampleReader, settings: LoaderSettings) -> bool:
    """Return whether the samples of a source are neither processed nor weighted."""
    return (
        samples.mode is Mode.TRAIN  # evaluators get the meta of samples
        and not samples.processors
        and samples.is_static
        and not settings.has_buckets
        and settings.balance == "none"
        and settings.limit is None
        and samples.data.on_bad_sample == "raise"
    )


@dataclass(frozen=True)
class BatchedSource:
    """Source whose items are batches, read in the blocks of `Stream`."""

    samples: SampleReader
    passes: SourcePasses
    group_size: int
    block_size: int
    """Samples per block, rounded up to whole groups; 0 makes each item a block."""
    max_bytes: int | None
    """Maximum size of a block in bytes, rounded up to whole groups; None for no limit."""

    def blocks(self, data_pass: int, first: int) -> Iterator[Batch]:
        """Yield the samples of a pass from number `first` on, with their numbers as indices.

        Args:
            data_pass: number of the pass.
            first: number of the first sample, where a block begins.
        """
        parts: list[Batch] = []
        count = 0
        for part in self._read(data_pass, first):
            if not self.block_size:
                yield part
                continue
            parts.append(part)
            count += len(part)
            while count >= (size := self._num_samples_per_block(part)):
                joined = concatenate(parts)
                yield joined.rows(0, size)
                parts, count = [joined.rows(size, count)], count - size
        if count:
            yield concatenate(parts)

    def _read(self, data_pass: int, first: int) -> Iterator[Batch]:
        for begin, item in self.passes.read_batches(data_pass, first):
            length = len(next(iter(item.inputs.values())))
            part = self._to_batch(item, begin, length)
            yield part.rows(max(0, first - begin), length) if begin < first else part

    def _to_batch(self, item: Sample, begin: int, length: int) -> Batch:
        try:
            inputs = fit_to_specs(item.inputs, self.samples.inputs, length)
            targets = fit_to_specs(item.targets, self.samples.targets, length)
        except (KeyError, ValueError, AttributeError):  # such as a list, or a target in the meta
            rows = list(enumerate(self.samples.source.split(item), begin))
            for index, sample in rows:
                self.samples.check(sample, index)
            return self.samples.collate_batch([sample for _, sample in rows], [(0, index, 0) for index, _ in rows])
        return Batch(inputs, targets, indices=range(begin, begin + length))

    def _num_samples_per_block(self, part: Batch) -> int:
        num_groups = -(-self.block_size // self.group_size)
        if self.max_bytes is not None:
            arrays = [*part.inputs.values(), *part.targets.values()]
            nbytes = sum(array[0].nbytes for array in arrays if array.ndim > 1)
            num_groups = min(num_groups, -(-self.max_bytes // max(1, nbytes * self.group_size)))
        return num_groups * self.group_size
