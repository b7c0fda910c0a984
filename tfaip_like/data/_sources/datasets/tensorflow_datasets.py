"""`tf.data.Dataset` and `keras.utils.PyDataset` as sources."""

from __future__ import annotations

from typing import Any

from tfaip_like.data._sources.datasets.items import (
    ItemIterable,
    ItemReader,
    UnbatchedIterable,
    convert_sequence,
    is_batched,
)


def convert_tf_data(dataset: Any, read: ItemReader) -> Any:
    """Return a `tf.data.Dataset`, of samples or of batches, as a source."""
    example = read(_placeholder(dataset.element_spec))
    kind = UnbatchedIterable if is_batched(example, read.inputs) else ItemIterable
    return kind(dataset.as_numpy_iterator, read)


def _placeholder(element_spec: Any) -> Any:
    """Return an item whose arrays have the ranks of a dataset's elements."""
    import numpy as np
    import tensorflow as tf

    return tf.nest.map_structure(lambda spec: np.empty((0,) * (spec.shape.rank or 0)), element_spec)


def convert_py_dataset(dataset: Any, read: ItemReader) -> Any:
    """Return a `keras.utils.PyDataset`, whose items are batches, as a source."""
    if dataset.num_batches is None:
        return UnbatchedIterable(lambda: dataset, read)
    return convert_sequence(_PyBatches(dataset), read)


class _PyBatches:
    """Batches of a `PyDataset` as a sequence."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return int(self._dataset.num_batches)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]
