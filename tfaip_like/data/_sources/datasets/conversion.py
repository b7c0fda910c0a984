"""Recognition of datasets of other libraries, by the modules of their classes: nothing is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.datasets.arrays import convert_arrays, convert_frame, is_array
from tfaip_like.data._sources.datasets.hugging_face import HuggingFaceSequence
from tfaip_like.data._sources.datasets.items import ItemIterable, ItemReader, ItemSequence, iterate_same


def convert_dataset(source: Any, read: ItemReader, reopen: Callable[[], Any] | None = None) -> Any:
    """Return what `Data.source` returned as a source of samples; a source of samples unchanged.

    Args:
        source: dataset of any library, arrays, a frame, a list of mappings or tuples, or a generator.
        read: converts its items.
        reopen: returns the dataset again, for each pass over a generator; None if it is not known how.

    Raises:
        CodeError: if its items do not match the specifications.
    """
    if isinstance(source, ArraySource):
        return source
    if isinstance(source, Mapping | tuple) and _holds_arrays(source):
        return convert_arrays(source, read)
    if isinstance(source, Iterator) and reopen is not None:
        return ItemIterable(_Reopened(source, reopen), read, type(source).__name__)
    if isinstance(source, list) and source and isinstance(source[0], Mapping | tuple):
        return ItemSequence(source, read)
    if isinstance(source, list) and len(source) in (2, 3) and len(read.inputs) == 1 and all(map(is_array, source)):
        (spec,) = read.inputs.values()
        if source[0].ndim == len(spec.shape) + 1:
            raise read.error("a list of arrays, whose items would be samples; return a tuple of arrays: (x, y)")
    return _convert_by_library(source, read, reopen)


def _holds_arrays(source: Any) -> bool:
    values = source.values() if isinstance(source, Mapping) else source
    return bool(source) and all(
        _holds_arrays(value) if isinstance(value, Mapping | tuple) else is_array(value) for value in values
    )


def _convert_by_library(source: Any, read: ItemReader, reopen: Callable[[], Any] | None) -> Any:
    libraries = {cls.__module__.partition(".")[0] for cls in type(source).__mro__}
    names = {cls.__name__ for cls in type(source).__mro__}
    if {"datasets", "grain"} & libraries:  # Hugging Face's are those of PyTorch too, if it is installed
        if "datasets" in libraries and "Dataset" in names and "IterableDataset" not in names:
            return HuggingFaceSequence(source, read)
        has_index = hasattr(source, "__len__") and "IterableDataset" not in names
        return (
            ItemSequence(source, read) if has_index else ItemIterable(iterate_same(source), read, type(source).__name__)
        )
    if "tensorflow" in libraries and "DatasetV2" in names:
        from tfaip_like.data._sources.datasets.tensorflow_datasets import convert_tf_data

        return convert_tf_data(source, read, reopen)
    if "keras" in libraries and "PyDataset" in names:
        from tfaip_like.data._sources.datasets.tensorflow_datasets import convert_py_dataset

        return convert_py_dataset(source, read)
    if "torch" in libraries and "DataLoader" in names:
        from tfaip_like.data._sources.datasets.torch_datasets import convert_data_loader

        return convert_data_loader(source, read)
    if "torch" in libraries and "Dataset" in names:
        from tfaip_like.data._sources.datasets.torch_datasets import convert_torch_dataset

        return convert_torch_dataset(source, read)
    if {"pandas", "polars"} & libraries and "DataFrame" in names:
        return convert_frame(source, read)
    return source


class _Reopened:
    """Function that returns a given iterator first, and then a new one in each call."""

    def __init__(self, first: Iterator[Any], reopen: Callable[[], Any]):
        self._first: Iterator[Any] | None = first
        self._reopen = reopen

    def __call__(self, data_pass: int, seed: int) -> Iterator[Any]:
        first, self._first = self._first, None
        return first if first is not None else iter(self._reopen())
