"""Samples as the network sees them (`--trainer.keep_data`): after filters, resampling and processors."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._report.summary_store import store_summaries
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.files import atomic_directory
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._sample import Sample
from tfaip_like.data._writers import JsonLines, Npz, WriteSample
from tfaip_like.summaries import Histogram

logger = logging.getLogger(__name__)

MAX_COMPONENTS = 32
"""Components of an array with a histogram each; larger arrays get a single one."""
MAX_VALUES = 100_000
"""Values per histogram; later ones are ignored."""


def write_used_data(
    output_dir: OutputDir, group: str, samples: SampleReader, batches: Iterable[Batch], check: Callable[[], None]
) -> None:
    """Write samples to `used_data/`, and histograms of their inputs and targets to `summaries/`.

    Args:
        output_dir: run directory.
        group: train or val.
        samples: source of the batches.
        batches: batches to write.
        check: called for each batch; raises to stop.
    """
    distributions = _Distributions()
    count = 0
    # An .npz file needs samples of equal shapes.
    suffix, writer = (".npz", Npz(inputs=True)) if samples.is_static else (".jsonl", JsonLines(inputs=True))
    with (
        atomic_directory(output_dir.used_data / group) as staging_dir,
        writer.open(staging_dir / f"samples{suffix}") as write,
    ):
        for batch in batches:
            check()
            if len(batch):
                distributions.add(batch)
                count += len(batch)
                _write_batch(batch, write)
    store_summaries(output_dir.summaries / f"data_{group}", distributions.histograms())
    logger.info("saved %s as the network sees them to %s", pluralize(count, "sample"), output_dir.used_data / group)


def _write_batch(batch: Batch, write: WriteSample) -> None:
    for index, sample in itertools.zip_longest(batch.indices, batch.samples({})):
        meta = {} if index is None else {"index": index}
        write(Sample(sample.inputs, sample.targets, meta={**meta, **sample.meta}))


class _Distributions:
    """Values of inputs and targets for histograms."""

    def __init__(self) -> None:
        self._values: dict[str, list[npt.NDArray[Any]]] = {}
        self._counts: dict[str, int] = {}

    def add(self, batch: Batch) -> None:
        for kind, arrays in (("input", batch.inputs), ("target", batch.targets)):
            for name, values in _iter_components(arrays):
                label = f"{kind}_{name}"
                if self._counts.get(label, 0) < MAX_VALUES:
                    self._values.setdefault(label, []).append(values)
                    self._counts[label] = self._counts.get(label, 0) + len(values)

    def histograms(self) -> dict[str, Histogram]:
        joined = {name: np.concatenate(parts)[:MAX_VALUES] for name, parts in self._values.items()}
        finite = {name: values[np.isfinite(values)] for name, values in joined.items()}
        return {name: Histogram(values) for name, values in finite.items() if len(values)}


def _iter_components(arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            continue
        if array.ndim == 2 and array.shape[1] <= MAX_COMPONENTS:
            yield from ((f"{name}_{index}", array[:, index].astype(np.float64)) for index in range(array.shape[1]))
        else:
            yield name, array.reshape(-1).astype(np.float64)
