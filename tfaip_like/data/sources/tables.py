"""Tables in many files, read without loading them all at once."""

from __future__ import annotations

import csv
import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data.sources.arrays import ArraySource
from tfaip_like.errors import UsageError, counted

logger = logging.getLogger(__name__)

TEXT = (".csv", ".tsv")
ROWS_AT_ONCE = 2**20

Columns = Mapping[str, str | Sequence[str]]
"""Name of an array -> the column of a table that it is, or several that lie side by side in it."""


class TableSource(ArraySource):
    """The rows of tables in many files: .npz, .npy, .csv, .tsv or .parquet.

    The files are read one after another and copied into arrays that are mapped from a temporary file
    (in TMPDIR), so memory holds one file at a time, and any row can be read at once. The copy goes
    away with the source.

    Args:
        files: in the order of their rows.
        inputs: see `Columns`; the keys of an .npz file are its columns.
        targets: likewise.

    Raises:
        UsageError: for a column that a file does not have, or files that do not fit together.
    """

    def __init__(self, files: Sequence[Path], inputs: Columns, targets: Columns | None = None):
        if not files:
            raise UsageError("a table needs at least one file")
        folder = Path(tempfile.mkdtemp(prefix="tfaip_like-"))
        self._remove = weakref.finalize(self, shutil.rmtree, str(folder), True)
        columns = {f"inputs-{name}": which for name, which in inputs.items()}
        columns |= {f"targets-{name}": which for name, which in (targets or {}).items()}
        arrays = _copied(files, columns, folder)
        logger.info("%s in %s", counted(len(next(iter(arrays.values()))), "row"), counted(len(files), "file"))
        super().__init__(
            {name: arrays[f"inputs-{name}"] for name in inputs},
            {name: arrays[f"targets-{name}"] for name in targets or {}},
        )


def _copied(files: Sequence[Path], columns: Columns, folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The columns of all files, mapped from a file each."""
    kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    whole = {name: all(file.suffix in TEXT for file in files) for name in columns}
    """Columns of texts in which every number is an integer, and so meant as one."""
    streams = {name: open(folder / str(number), "wb") for number, name in enumerate(columns)}  # noqa: SIM115
    try:
        for file in files:
            table = read_table(file)
            for name, which in columns.items():
                array = np.ascontiguousarray(_column(table, which, file))
                kind = kinds.setdefault(name, (array.dtype, array.shape[1:]))
                if array.shape[1:] != kind[1] or not np.can_cast(array.dtype, kind[0], "safe"):
                    raise UsageError(
                        f"{file}: {which!r} has rows of shape {array.shape[1:]} and {array.dtype}, "
                        f"but the files before have {kind[1]} and {kind[0]}"
                    )
                whole[name] = whole[name] and bool((array == np.rint(array)).all())
                streams[name].write(array.astype(kind[0], copy=False).data)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; another folder can be given by TMPDIR") from error
    finally:
        for stream in streams.values():
            stream.close()
    arrays = {}
    for number, name in enumerate(columns):
        file = folder / str(number)
        if whole[name]:
            _as_integers(file)
            kinds[name] = (np.dtype(np.int64), kinds[name][1])
        arrays[name] = np.asarray(np.memmap(file, kinds[name][0], "r").reshape(-1, *kinds[name][1]))
    return arrays


def _as_integers(file: Path) -> None:
    """Rewrites a file of floats as integers of the same size, in place."""
    floats = np.memmap(file, np.float64, "r+")
    for begin in range(0, len(floats), ROWS_AT_ONCE):
        part = floats[begin : begin + ROWS_AT_ONCE]
        part.view(np.int64)[:] = part.astype(np.int64)


def read_table(file: Path) -> Mapping[str, Any]:
    """The columns of a file by their names.

    Raises:
        UsageError: when it cannot be read.
    """
    readers = {".npz": np.load, ".npy": _read_npy, ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    if file.suffix not in readers:
        raise UsageError(f"{file}: a table is one of {', '.join(readers)}")
    try:
        table: Mapping[str, Any] = readers[file.suffix](file)
        return table
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
    except Exception as error:
        raise UsageError(f"{file}: cannot be read as {file.suffix}: {error}") from error


def _read_npy(file: Path) -> Mapping[str, Any]:
    return {"data": np.load(file, mmap_mode="r")}


def _read_csv(file: Path) -> Mapping[str, Any]:
    delimiter = "\t" if file.suffix == ".tsv" else ","
    with open(file, newline="", encoding="utf-8") as lines:
        names = next(csv.reader(lines, delimiter=delimiter), [])
        values = np.loadtxt(lines, delimiter=delimiter, ndmin=2, dtype=np.float64)
    if values.shape[1] != len(names):
        raise UsageError(f"{file}: {len(names)} names in its first line, but {values.shape[1]} columns")
    return {name.strip(): values[:, number] for number, name in enumerate(names)}


def _read_parquet(file: Path) -> Mapping[str, Any]:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UsageError(f"{file}: reading parquet needs pyarrow; pip install 'tfaip_like[parquet]'") from None
    table = pyarrow.parquet.read_table(file)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _column(table: Mapping[str, Any], which: str | Sequence[str], file: Path) -> npt.NDArray[Any]:
    names = [which] if isinstance(which, str) else list(which)
    for name in names:
        if name not in table:
            raise UsageError(f"{file}: has no column {name!r}; it has {', '.join(table)}")
    if isinstance(which, str):
        return np.asarray(table[which])
    return np.stack([np.asarray(table[name]) for name in names], axis=1)
