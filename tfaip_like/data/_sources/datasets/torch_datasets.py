"""Datasets and loaders of PyTorch as sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from tfaip_like.data._sources.datasets.items import (
    ItemIterable,
    ItemReader,
    ItemSequence,
    convert_sequence,
    is_batched,
    iterate_same,
    split_batch,
)


def convert_torch_dataset(dataset: Any, read: ItemReader) -> Any:
    """Return a `torch.utils.data.Dataset` or `IterableDataset` as a source."""
    if "IterableDataset" in (cls.__name__ for cls in type(dataset).__mro__):
        return ItemIterable(iterate_same(dataset), read, type(dataset).__name__)
    if not hasattr(dataset, "__len__"):
        raise read.error(f"{type(dataset).__name__} has no __len__, which random access requires")
    return ItemSequence(dataset, read)


def convert_data_loader(loader: Any, read: ItemReader) -> Any:
    """Return a `torch.utils.data.DataLoader` as a source.

    Its dataset and `collate_fn` are used, with our order and workers; a loader with its own sampler is an iterable of
    batches.
    """
    import torch.utils.data as data  # type: ignore[import-not-found]

    is_map_style = not isinstance(loader.dataset, data.IterableDataset)
    has_own_batches = loader.batch_sampler is not None and type(loader.batch_sampler) is not data.BatchSampler
    if is_map_style and not has_own_batches and type(loader.sampler) in (data.SequentialSampler, data.RandomSampler):
        default, unbatched = data._utils.collate.default_collate, data._utils.collate.default_convert
        if loader.collate_fn is unbatched:  # batch_size None: the items may be batches
            return convert_sequence(loader.dataset, read)
        if loader.collate_fn is default:
            return ItemSequence(loader.dataset, read, loader.batch_size)
        return ItemSequence(_Collated(loader.dataset, loader.collate_fn, read), read, loader.batch_size)
    return ItemIterable(_LoaderPasses(loader), read, type(loader).__name__)


class _LoaderPasses:
    """Function that begins a pass over a `DataLoader`, whose random generators are seeded for each pass.

    Args:
        loader: loader; generators are given to it, and to its samplers, where there are none.
    """

    def __init__(self, loader: Any):
        self._loader = loader
        samplers = [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
        self._with_epochs = [part for part in (loader, loader.dataset, *samplers) if hasattr(part, "set_epoch")]
        self._with_generator = [part for part in (loader, *samplers) if hasattr(part, "generator")]
        self._seeds: dict[int, int] = {}
        """Seed that the user gave a generator, by its position."""
        for number, part in enumerate(self._with_generator):
            if part.generator is not None:
                self._seeds[number] = part.generator.initial_seed()

    def __call__(self, data_pass: int, seed: int) -> Iterable[Any]:
        import torch

        for part in self._with_epochs:
            part.set_epoch(data_pass)
        for number, part in enumerate(self._with_generator):
            if part.generator is None:
                part.generator = torch.Generator()
            words = np.random.SeedSequence((self._seeds.get(number, seed), data_pass)).generate_state(1)
            part.generator.manual_seed(int(words[0]))
        return cast("Iterable[Any]", self._loader)


class _Collated:
    """Items of a dataset after a `collate_fn`, which gets a batch of one."""

    def __init__(self, dataset: Any, collate: Any, read: ItemReader):
        self._dataset = dataset
        self._collate = collate
        self._read = read

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        batch = self._read(self._collate([self._dataset[index]]))
        return next(split_batch(batch)) if is_batched(batch, self._read.inputs) else batch
