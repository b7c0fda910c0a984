"""Datasets and loaders of PyTorch as sources."""

from __future__ import annotations

from typing import Any

from tfaip_like.data._sources.datasets.items import (
    ItemIterable,
    ItemReader,
    ItemSequence,
    UnbatchedIterable,
    convert_sequence,
    is_batched,
    split_batch,
)


def convert_torch_dataset(dataset: Any, read: ItemReader) -> Any:
    """Return a `torch.utils.data.Dataset` or `IterableDataset` as a source."""
    if "IterableDataset" in (cls.__name__ for cls in type(dataset).__mro__):
        return ItemIterable(lambda: dataset, read)
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
    if is_map_style and type(loader.sampler) in (data.SequentialSampler, data.RandomSampler):
        default, unbatched = data._utils.collate.default_collate, data._utils.collate.default_convert
        if loader.collate_fn is unbatched:  # batch_size None: the items may be batches
            return convert_sequence(loader.dataset, read)
        if loader.collate_fn is default:
            return convert_torch_dataset(loader.dataset, read)
        return ItemSequence(_Collated(loader.dataset, loader.collate_fn, read), read)
    kind = ItemIterable if loader.batch_size is None else UnbatchedIterable
    return kind(lambda: loader, read)


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
