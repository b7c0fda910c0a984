"""Table files of all supported formats, read as named columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfaip_like._utils.errors import UsageError, short_error_message, truncate_list
from tfaip_like._utils.numpy_files import load_numpy, reason_of_numpy
from tfaip_like.data._sources.tables.arrow import arrow_to_cells
from tfaip_like.data._sources.tables.cells import Cells, ColumnError, RowBatch, check_storable
from tfaip_like.data._sources.tables.csv_files import CsvTable
from tfaip_like.data._sources.tables.table_format import TableFormat

TEXT_SUFFIXES = (".csv", ".tsv")
"""File name extensions of text tables."""
CHUNK_BYTES = 2**26
DECODED_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "BYTE_ARRAY": 64}
"""Size of a decoded value of a Parquet type, at least; a text is a Python object."""


class Table(Protocol):
    """Interface of an open table file."""

    names: Sequence[str]
    """Column names."""

    def batches(self, columns: Iterable[str]) -> Iterator[RowBatch]:
        """Yield the cells of columns in batches of rows."""


class _NumPyTable:
    """Table of the NumPy arrays in one file."""

    def __init__(self, path: Path, names: Sequence[str], load: Callable[[str], Any]):
        self.path = path
        self.names = names
        self._load = load

    def batches(self, columns: Iterable[str]) -> Iterator[RowBatch]:
        """Yield all rows as one batch."""
        cells = {name: Cells(self._column(name)) for name in columns}
        lengths = {name: len(column.values) for name, column in cells.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise UsageError(f"{self.path}: columns differ in their number of rows ({counts})")
        yield RowBatch(cells)

    def _column(self, name: str) -> Any:
        try:
            values = self._load(name)
            if not isinstance(values, np.ndarray):
                raise ColumnError("is not an array")
            if values.dtype.kind == "O":
                raise ColumnError("contains Python objects")
            check_storable(values)
        except ColumnError as error:
            raise UsageError(f"{self.path}, column {name!r}: {error}") from None
        except UsageError:
            raise
        except ValueError as error:  # objects, which could run code when they are unpickled
            raise UsageError(f"{self.path}, column {name!r}: cannot be read: {reason_of_numpy(error)}") from error
        return values


@contextmanager
def _open_npz(path: Path, table_format: TableFormat) -> Iterator[Table]:
    archive = load_numpy(path)
    if isinstance(archive, np.ndarray):
        raise UsageError(f"{path}: not an .npz archive but a single array; rename it to .npy")
    with archive:
        yield _NumPyTable(path, archive.files, archive.__getitem__)


@contextmanager
def _open_npy(path: Path, table_format: TableFormat) -> Iterator[Table]:
    array = load_numpy(path, mmap_mode="r")
    names = array.dtype.names
    yield _NumPyTable(path, names or ["data"], array.__getitem__ if names else lambda name: array)


@contextmanager
def _open_csv(path: Path, table_format: TableFormat) -> Iterator[Table]:
    yield CsvTable(path, table_format)


class ParquetTable:
    """Parquet file, read in batches of rows."""

    def __init__(self, path: Path, file: Any):
        self.path = path
        self._file = file
        self.names: Sequence[str] = file.schema_arrow.names

    def batches(self, columns: Iterable[str]) -> Iterator[RowBatch]:
        """Yield the cells of columns in batches of rows."""
        columns = list(columns)
        metadata = self._file.metadata
        num_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        size = CHUNK_BYTES * max(1, metadata.num_rows) // max(1, num_bytes)
        for batch in self._file.iter_batches(min(max(size, 1), 2**16), columns=columns):
            yield RowBatch({name: self._cells(name, batch) for name in columns})

    def row_groups(self, columns: Sequence[str]) -> tuple[list[int], int]:
        """Return the number of rows of each row group, and about the decoded size of columns in bytes."""
        metadata = self._file.metadata
        paths = [metadata.schema.column(position).path for position in range(metadata.num_columns)]
        prefixes = tuple(f"{name}." for name in columns)
        positions = [i for i, path in enumerate(paths) if f"{path}.".startswith(prefixes)]
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        chunks = (group.column(position) for group in groups for position in positions)
        # Encoded values may be much smaller than decoded ones.
        num_bytes = sum(
            max(chunk.total_uncompressed_size, chunk.num_values * DECODED_BYTES.get(chunk.physical_type, 0))
            for chunk in chunks
        )
        return [group.num_rows for group in groups], num_bytes

    def read_row_group(self, number: int, columns: Sequence[str]) -> Mapping[str, Cells]:
        """Return the cells of columns in a row group that is not empty."""
        rows, *more = self._file.read_row_group(number, columns=columns).combine_chunks().to_batches()
        if more:
            raise UsageError(f"{self.path}: row group {number + 1} is too large; write smaller row groups")
        return {name: self._cells(name, rows) for name in columns}

    def _cells(self, name: str, batch: Any) -> Cells:
        try:
            return arrow_to_cells(batch.column(batch.schema.get_field_index(name)))
        except ColumnError as error:
            raise UsageError(f"{self.path}, column {name!r}: {error}") from None


@contextmanager
def _open_parquet(path: Path, table_format: TableFormat) -> Iterator[Table]:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UsageError(f"{path}: reading parquet needs pyarrow; pip install 'tfaip_like[parquet]'") from None
    with pyarrow.parquet.ParquetFile(path) as file:
        yield ParquetTable(path, file)


_READERS = {".npz": _open_npz, ".npy": _open_npy, **dict.fromkeys(TEXT_SUFFIXES, _open_csv), ".parquet": _open_parquet}


@contextmanager
def open_table(path: Path, table_format: TableFormat) -> Iterator[Table]:
    """Open a table file; errors inside the block are converted to `UsageError` as well.

    Raises:
        UsageError: if the file cannot be read.
    """
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise UsageError(f"{path}: not a supported table file ({', '.join(_READERS)})")
    try:
        with _READERS[kind](path, table_format) as table:
            yield table
    except (UsageError, GeneratorExit):
        raise
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # readers raise exceptions of many types
        raise UsageError(f"{path}: cannot be read as {kind}: {short_error_message(error)}") from error


def is_text_table(path: Path) -> bool:
    """Return whether a table file is a text file."""
    return path.suffix.lower() in TEXT_SUFFIXES


def column_names(path: Path, table_format: TableFormat | None = None) -> Sequence[str]:
    """Return the column names of a table file.

    Args:
        path: .csv, .tsv, .parquet, .npz or .npy file.
        table_format: format of the file; by default detected.

    Raises:
        UsageError: if the file cannot be read.
    """
    with open_table(path, table_format or TableFormat()) as table:
        return list(table.names)


def check_columns(path: Path, table: Table, columns: Collection[str]) -> None:
    """Raise `UsageError` for columns that a table lacks or has more than once."""
    counts = Counter(table.names)
    for name in columns:
        if not counts[name]:
            raise UsageError(f"{path}: has no column {name!r}; available: {truncate_list(table.names, 20) or 'none'}")
        if counts[name] > 1:
            positions = [number for number, other in enumerate(table.names, 1) if other == name]
            raise UsageError(
                f"{path}: has {len(positions)} columns {name!r} (columns {', '.join(map(str, positions))})"
            )
