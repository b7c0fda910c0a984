"""`tf.data.Dataset` and `keras.utils.PyDataset` as sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from tfaip_like.data._sources.datasets.items import (
    ItemIterable,
    ItemReader,
    convert_sequence,
    iterate_same,
)


def convert_tf_data(dataset: Any, read: ItemReader, reopen: Callable[[], Any] | None) -> Any:
    """Return a `tf.data.Dataset`, of samples or of batches, as a source."""
    is_finite = int(dataset.cardinality()) >= 0  # negative: infinite or unknown
    return ItemIterable(_Passes(dataset, reopen), read, type(dataset).__name__, is_finite)


class _Passes:
    """Function that begins a pass over a `tf.data.Dataset`.

    A dataset with `shuffle` has another order for each iterator. The order of a pass is that of the iterator of the
    same number, of a dataset made with the seed of the run.

    Args:
        dataset: dataset for passes that have the same order.
        reopen: returns it again; None if it is not known how.
    """

    def __init__(self, dataset: Any, reopen: Callable[[], Any] | None):
        self._dataset = dataset
        self._reopen = reopen if _is_reshuffled(dataset) else None
        self._num_begun: int | None = None
        """Number of iterators of the dataset; None before the first one."""

    def __call__(self, data_pass: int, seed: int) -> Iterable[Any]:
        if self._reopen is None:
            return cast("Iterable[Any]", self._dataset)
        import tensorflow as tf

        if self._num_begun is None or self._num_begun > data_pass:
            tf.random.set_seed(seed)  # for a shuffle without a seed
            with _numpy_seed(seed):
                self._dataset, self._num_begun = self._reopen(), 0
        for _ in range(data_pass - self._num_begun):
            iter(self._dataset)
        self._num_begun = data_pass + 1
        return cast("Iterable[Any]", self._dataset)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed the global generator of NumPy for a while: datasets of `keras.utils` draw their seed from it."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _is_reshuffled(dataset: Any) -> bool:
    """Return whether each iterator of a dataset may have another order."""
    if getattr(dataset, "_reshuffle_each_iteration", False):
        return True
    return any(map(_is_reshuffled, dataset._inputs()))


def convert_py_dataset(dataset: Any, read: ItemReader) -> Any:
    """Return a `keras.utils.PyDataset`, whose items are batches, as a source."""
    if dataset.num_batches is None:
        return ItemIterable(iterate_same(dataset), read, type(dataset).__name__)
    return convert_sequence(_PyBatches(dataset), read)


class _PyBatches:
    """Batches of a `PyDataset` as a sequence."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return int(self._dataset.num_batches)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]
