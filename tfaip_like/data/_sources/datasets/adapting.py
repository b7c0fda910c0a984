"""Recognition of datasets of other libraries, by the modules of their classes: nothing is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.datasets.arrays import adapt_arrays, adapt_frame, is_array
from tfaip_like.data._sources.datasets.items import ItemIterable, ItemReader, ItemSequence


def adapt_dataset(source: Any, read: ItemReader, again: Callable[[], Any] | None = None) -> Any:
    """Return what `Data.source` returned as a source of samples; a source of samples unchanged.

    Args:
        source: dataset of any library, arrays, a frame, a list of mappings or tuples, or a generator.
        read: converts its items.
        again: returns a new dataset, for each pass over a generator; None if it is not known.

    Raises:
        CodeError: if its items do not match the specifications.
    """
    if isinstance(source, ArraySource):
        return source
    if isinstance(source, Mapping | tuple) and _holds_arrays(source):
        return adapt_arrays(source, read)
    if isinstance(source, Iterator) and again is not None:
        return ItemIterable(_FirstThenAgain(source, again), read)
    if isinstance(source, list) and source and isinstance(source[0], Mapping | tuple):
        return ItemSequence(source, read)
    return _adapt_by_library(source, read)


def _holds_arrays(source: Any) -> bool:
    values = source.values() if isinstance(source, Mapping) else source
    return bool(source) and all(
        _holds_arrays(value) if isinstance(value, Mapping | tuple) else is_array(value) for value in values
    )


def _adapt_by_library(source: Any, read: ItemReader) -> Any:
    libraries = {_library(cls): cls for cls in reversed(type(source).__mro__)}
    names = {cls.__name__ for cls in type(source).__mro__}
    if {"datasets", "grain"} & libraries.keys():  # Hugging Face's are those of PyTorch too, if it is installed
        has_index = hasattr(source, "__len__") and "IterableDataset" not in names
        return ItemSequence(source, read) if has_index else ItemIterable(lambda: source, read)
    if "tensorflow" in libraries and "DatasetV2" in names:
        from tfaip_like.data._sources.datasets.tensorflow_datasets import adapt_tf_data

        return adapt_tf_data(source, read)
    if "keras" in libraries and "PyDataset" in names:
        from tfaip_like.data._sources.datasets.tensorflow_datasets import adapt_py_dataset

        return adapt_py_dataset(source, read)
    if "torch" in libraries and "DataLoader" in names:
        from tfaip_like.data._sources.datasets.torch_datasets import adapt_data_loader

        return adapt_data_loader(source, read)
    if "torch" in libraries and "Dataset" in names:
        from tfaip_like.data._sources.datasets.torch_datasets import adapt_torch_dataset

        return adapt_torch_dataset(source, read)
    if {"pandas", "polars"} & libraries.keys() and "DataFrame" in names:
        return adapt_frame(source, read)
    return source


def _library(cls: type) -> str:
    return cls.__module__.partition(".")[0]


class _FirstThenAgain:
    """Function that returns a given iterator first, and then a new one in each call."""

    def __init__(self, first: Iterator[Any], again: Callable[[], Any]):
        self._first: Iterator[Any] | None = first
        self._again = again

    def __call__(self) -> Iterator[Any]:
        first, self._first = self._first, None
        return first if first is not None else iter(self._again())
