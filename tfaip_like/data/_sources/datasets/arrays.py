"""Arrays, array files (HDF5, Zarr, memory-mapped) and frames (pandas, Polars) as sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.data._sources.arrays import ArraySource, RowSource
from tfaip_like.data._sources.datasets.items import ItemReader
from tfaip_like.data._sources.indexed import IndexedSequence

FILE_LIBRARIES = ("h5py", "zarr")


def is_array(value: Any) -> bool:
    """Return whether a value is an array with a sample axis, in memory or in a file."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__")) and len(value.shape) > 0


def convert_arrays(arrays: Any, read: ItemReader) -> IndexedSequence[Sample] | ArraySource:
    """Return arrays by name or by position, `(x, y)`, as a source of their rows.

    Args:
        arrays: mapping of arrays, or tuple of arrays or of mappings of arrays.
        read: names the arrays.
    """
    named = read(arrays)
    columns = {**named.inputs, **named.targets}
    if not any(type(array).__module__.partition(".")[0] in FILE_LIBRARIES for array in columns.values()):
        return ArraySource(named.inputs, named.targets)
    return ArrayFileSource(named.inputs, named.targets)


class ArrayFileSource(IndexedSequence[Sample], RowSource):
    """Source of the rows of arrays in files, of which each batch reads its rows.

    Args:
        inputs: arrays by input name, each of shape (N, ...).
        targets: arrays by target name, each of shape (N, ...).
    """

    def __init__(self, inputs: Mapping[str, Any], targets: Mapping[str, Any]):
        self._inputs = dict(inputs)
        self._targets = dict(targets)
        lengths = {name: array.shape[0] for name, array in {**inputs, **targets}.items()}
        if len(set(lengths.values())) != 1:
            counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise UsageError(f"arrays differ in their number of rows ({counts})")
        self._length = int(next(iter(lengths.values())))

    def __len__(self) -> int:
        return self._length

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        return Sample(
            {name: array[index] for name, array in self._inputs.items()},
            {name: array[index] for name, array in self._targets.items()},
        )

    def rows(self, indices: Any) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some rows."""
        return (
            {name: _read_rows(array, indices) for name, array in self._inputs.items()},
            {name: _read_rows(array, indices) for name, array in self._targets.items()},
        )

    def __reduce__(self) -> Any:
        files = {name: _locate(array) for name, array in {**self._inputs, **self._targets}.items()}
        return _reopen, (files, list(self._inputs))


def _read_rows(array: Any, indices: Any) -> Any:
    """Return rows in any order; h5py reads ascending, distinct ones only."""
    if isinstance(array, np.ndarray):
        return array[indices]
    unique, inverse = np.unique(np.asarray(indices), return_inverse=True)
    rows = array.oindex[unique] if hasattr(array, "oindex") else array[unique]
    return np.asarray(rows)[inverse]


def _locate(array: Any) -> Any:
    """Return where a data worker opens an array again; the array itself if it can be sent."""
    if type(array).__module__.startswith("h5py"):
        return ("h5py", array.file.filename, array.name)
    return ("", array, "")


def _reopen(files: Mapping[str, tuple[str, Any, str]], inputs: list[str]) -> ArrayFileSource:
    arrays = {}
    for name, (library, place, key) in files.items():
        if library:
            import h5py

            arrays[name] = h5py.File(place, "r")[key]
        else:
            arrays[name] = place
    return ArrayFileSource(
        {name: arrays[name] for name in inputs}, {name: array for name, array in arrays.items() if name not in inputs}
    )


def convert_frame(frame: Any, read: ItemReader) -> ArraySource:
    """Return the rows of a pandas or Polars frame as a source; columns have the names of inputs and targets.

    Raises:
        CodeError: if a column of an input or target is missing.
    """
    names = [str(name) for name in frame.columns]
    for name in (*read.inputs, *read.targets):
        if name not in names:
            raise read.error(
                f"no column for {name!r}; available: {truncate_list(names)}.\n"
                "Several columns that form one input are stacked by TableSource, or in Python."
            )
    return ArraySource(
        {name: _to_column(frame[name]) for name in read.inputs},
        {name: _to_column(frame[name]) for name in read.targets},
    )


def _to_column(column: Any) -> Any:
    """Return a column as an array; a column of lists or arrays becomes an array with more axes."""
    values = column.to_numpy()
    if values.dtype == object and len(values) and np.ndim(values[0]) > 0:
        return np.stack(list(map(np.asarray, values)))
    return values
