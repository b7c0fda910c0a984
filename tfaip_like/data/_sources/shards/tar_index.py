"""Index of a WebDataset shard: position of the files of each sample in the tar file."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from array import array
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.cache_dirs import user_cache_dir
from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.files import atomic_file
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sources.shards.source import FileStamp, stamp_of

TarIndex: TypeAlias = npt.NDArray[Any]
"""Structured array of shape (samples,): a field per extension with offset and size in bytes, -1 if it is missing."""

INDEX_SUFFIX = ".index1.npy"
"""Suffix of index files; its number is the version of their format."""
_NO_EXTENSION = "none"
"""Field of the index of an empty shard."""


def default_index_dir() -> Path:
    """Return the directory of indexes in the user's cache directory."""
    return user_cache_dir("shards")


def index_path(file: str, index_dir: Path) -> Path:
    """Return the path of the index of a shard."""
    name = hashlib.sha256(os.path.realpath(to_path(file)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return index_dir / f"{Path(file).stem[:100]}-{name}{INDEX_SUFFIX}"


def load_index(file: str, index_dir: Path) -> tuple[TarIndex, FileStamp]:
    """Return the index of a shard, memory-mapped, and the stamp of the shard; build it if there is none.

    Raises:
        UsageError: if the shard is damaged, or has changed since its index was built.
    """
    path = index_path(file, index_dir)
    stamp = stamp_of(file)
    if not path.exists():
        _write_index(path, build_index(file), stamp)
    try:
        stored: TarIndex = np.load(path, mmap_mode="r", allow_pickle=False)
        # A plain view of the memory map, which NumPy indexes faster; its first record is the stamp.
        index, stored_stamp = np.asarray(stored)[1:], tuple(np.asarray(stored[0][0]).tolist())
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"{path}: cannot be read as the index of {file}; delete it to build a new one") from error
    if stored_stamp != stamp:
        raise UsageError(f"{file}: changed since its index was built; restore the file, or delete the index {path}")
    return index, stamp


def _write_index(path: Path, index: TarIndex, stamp: FileStamp) -> None:
    record = np.zeros(1, index.dtype)
    record[record.dtype.names[0]] = stamp  # type: ignore[index]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as target:
            np.save(target, np.concatenate([record, index]))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; choose another directory: WebDatasetSource(index_dir=...)"
        ) from error


def build_index(file: str) -> TarIndex:
    """Return the index of a shard.

    As in WebDataset, a sample consists of consecutive files whose paths are equal up to the first dot of their name;
    files without an extension and hidden ones are ignored.

    Raises:
        UsageError: if the file is not an uncompressed tar file, is damaged, or a sample has two files of an extension.
    """
    files = array("q")  # row, number of the extension, offset and size of each file
    extensions: dict[str, int] = {}
    row, previous = -1, None
    try:
        with tarfile.open(to_path(file), "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them in memory
                key, extension = split_name(member.name)
                if not member.isfile() or not extension:
                    continue
                row, previous = row + (key != previous), key
                files.extend((row, extensions.setdefault(extension, len(extensions)), member.offset_data, member.size))
            _check_end(archive)
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, "strerror", None) or short_error_message(error)
        what = f"damaged after row {row + 1}" if row >= 0 else "not a readable tar file, or a compressed one"
        raise UsageError(f"{file}: {what}: {reason}") from error
    return _to_index(file, np.frombuffer(files, np.int64).reshape(-1, 4), list(extensions))


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise `tarfile.ReadError` without an end marker: `tarfile` stops at a damaged header as if it were the end."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("truncated, or a damaged header")


def split_name(name: str) -> tuple[str, str]:
    """Return the key and the extension of a file in a shard: `a/b.seg.PNG` becomes `a/b`, `seg.png`."""
    match = re.fullmatch(r"((?:.*/)?[^./][^./]*)\.([^/]+)", name)
    return (match[1], match[2].lower()) if match else (name, "")


def _to_index(file: str, files: npt.NDArray[np.int64], extensions: list[str]) -> TarIndex:
    """Return the index of files, each given by row, number of the extension, offset and size."""
    num_rows = int(files[-1, 0]) + 1 if len(files) else 0
    index = np.empty(num_rows, [(extension, np.int64, 2) for extension in extensions or [_NO_EXTENSION]])
    for number, extension in enumerate(extensions):
        members = files[files[:, 1] == number]
        if len(repeated := np.flatnonzero(np.diff(members[:, 0]) == 0)):
            row = int(members[repeated[0], 0])
            raise UsageError(f"{file}, row {row + 1}: has two files with the extension {extension} (in any case)")
        index[extension] = -1
        index[extension][members[:, 0]] = members[:, 2:]
    return index
