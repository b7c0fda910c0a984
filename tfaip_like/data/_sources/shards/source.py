"""Base class of data sources that read many large files (shards) in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.file_lists import find_paths
from tfaip_like.data._sources.indexed import IndexedSequence, PackedStrings

MAX_OPEN_SHARDS = 64
"""Number of shards that a process keeps open."""
NUM_SCAN_THREADS = 16
"""Number of shards that are opened at the same time, because storage has a latency."""
MAX_BLOCK_SAMPLES, MAX_BLOCK_BYTES = 1024, 2**22
"""Limits of a block of consecutive samples, in formats with fast access to each sample."""

T = TypeVar("T")
FileStamp: TypeAlias = tuple[int, int]
"""Size and modification time of a file, which reveal that it changed."""


class ShardedSource(IndexedSequence[Sample]):
    """Base class of random-access sources of shards.

    It keeps a few numbers per shard and per block in memory, not per sample. A shard that changes while the source is
    in use is an error, because the order of a training would change with it.

    Args:
        files: paths of the shards.
        stamps: size and modification time of each shard.
        block_lengths: numbers of samples in the blocks of each shard.

    Attributes:
        files: paths of the shards.
        block_ends: index after the last sample of each block; see `BlockSource`.
        sample_bytes: average size of a sample; see `BlockSource`.
        max_window_bytes: limit of a shuffle window; see `BlockSource`.

    Raises:
        UsageError: if there are no samples.
    """

    def __init__(self, files: Sequence[str], stamps: Sequence[FileStamp], block_lengths: Sequence[Sequence[int]]):
        self.files = PackedStrings(files)
        self._stamps = np.array(stamps, np.int64)
        counts = [sum(lengths) for lengths in block_lengths]
        if not sum(counts):
            raise UsageError(f"{files[0]}: contains no samples")
        self._ends = np.cumsum(counts, dtype=np.int64)
        """Index after the last sample of each shard."""
        self.block_ends: npt.NDArray[np.int64] = np.cumsum(
            [length for lengths in block_lengths for length in lengths], dtype=np.int64
        )
        self.sample_bytes: float = self._stamps[:, 0].sum() / len(self)
        self.max_window_bytes: int | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        # Open files and buffers are cached properties with such names; a data worker has its own.
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_cached")}

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of the shard of a sample and its row in it, both from 0."""
        number = int(self._ends.searchsorted(index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)

    def describe(self, index: int) -> str:
        """Return the file of a sample, and its row in it, from 1."""
        number, row = self.locate(index)
        return f"{self.files[number]}, row {row + 1}"

    def check_unchanged(self, number: int) -> str:
        """Return the path of a shard; raise `UsageError` if it has changed since the source was made."""
        file = self.files[number]
        if stamp_of(file) != tuple(self._stamps[number].tolist()):
            raise UsageError(f"{file}: changed since it was opened; restore the file, or start a new training")
        return file


def stamp_of(file: str) -> FileStamp:
    """Return the size and modification time of a shard; raise `UsageError` if it cannot be read."""
    try:
        status = os.stat(to_path(file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def find_shards(patterns: Iterable[str | Path] | str | Path, source: str, scan: Callable[[str], T]) -> dict[str, T]:
    """Return the shards that match paths and glob patterns, and what `scan` returns for each.

    Args:
        patterns: path, URL or pattern, or several.
        source: name of the source, for error messages.
        scan: function that reads the number of samples of a shard, called in several threads.

    Raises:
        UsageError: if a file does not exist, or a pattern matches nothing.
    """
    files = find_paths(map(str, [patterns] if isinstance(patterns, (str, Path)) else patterns), source)
    if not files:
        raise UsageError(f"{source}: files is empty")
    pool = ThreadPoolExecutor(NUM_SCAN_THREADS)
    try:
        with sample_progress_bar(len(files), "opening shards", delay_s=1) as bar:
            bar.unit = " files"
            results = {}
            for file, result in zip(files, pool.map(scan, files), strict=True):
                results[file] = result
                bar.update()
        return results
    finally:
        pool.shutdown(cancel_futures=True)


def samples_per_block(num_rows: int, num_bytes: int) -> int:
    """Return the number of consecutive samples in a block of a shard with fast access to each sample."""
    return max(1, min(MAX_BLOCK_SAMPLES, MAX_BLOCK_BYTES * num_rows // max(1, num_bytes)))


def split_into_blocks(num_rows: int, num_bytes: int) -> list[int]:
    """Return the numbers of samples in the blocks of a shard with fast access to each sample."""
    size = samples_per_block(num_rows, num_bytes)
    full, rest = divmod(num_rows, size)
    return [size] * full + [rest] * (rest > 0)
