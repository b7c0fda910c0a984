"""Shuffling of sources that are larger than memory: blocks in random order, samples within windows of some blocks."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, format_bytes
from tfaip_like.data._loader.sampler import INDEX, PASS, Sampler, SampleRows
from tfaip_like.data._sources.indexed import Indices

DEFAULT_BLOCKS, DEFAULT_WINDOW_BYTES = 64, 2**28
"""Limits of a window if `shuffle_buffer` is not set: number of blocks, and their size in bytes."""
SHUFFLE_BLOCKS_KEY, SHUFFLE_WINDOW_KEY = 2, 3
"""Keys of the random generators; 1 is the key of the length buckets."""


@runtime_checkable
class BlockSource(Protocol):
    """Interface of random-access sources with blocks of samples that are fast to read together."""

    block_ends: npt.NDArray[np.int64]
    """Index after the last sample of each block, shape (number of blocks,)."""
    sample_bytes: float
    """Average size of a sample in bytes."""
    max_window_bytes: int | None
    """Size of the blocks that fit into the buffer of the source; None for no limit."""


def blocks_per_window(source: BlockSource, shuffle_buffer: int | None, group: str) -> int:
    """Return the number of blocks whose samples are shuffled together.

    Args:
        source: source with blocks.
        shuffle_buffer: number of samples of a window, rounded up to whole blocks; None for the default.
        group: flag group such as `train`, for messages.

    Raises:
        UsageError: if the window does not fit into the buffer of the source.
    """
    samples_per_block = int(source.block_ends[-1]) / len(source.block_ends)
    block_bytes = samples_per_block * source.sample_bytes
    limit = source.max_window_bytes
    if shuffle_buffer is None:
        fit = int(min(DEFAULT_WINDOW_BYTES, limit or DEFAULT_WINDOW_BYTES) / max(block_bytes, 1))
        return max(1, min(DEFAULT_BLOCKS, fit))
    count = min(len(source.block_ends), -int(-shuffle_buffer // samples_per_block))
    if limit is not None and count > 1 and count * block_bytes > limit:
        raise UsageError(
            f"--{group}.shuffle_buffer {shuffle_buffer} needs {format_bytes(count * block_bytes)}, but the source "
            f"buffers {format_bytes(limit)}; decrease it, or set {type(source).__name__}(buffer_bytes=...)"
        )
    return count


class _Blocks(NamedTuple):
    """Order of the blocks in a pass."""

    order: npt.NDArray[np.int64]
    window_ends: npt.NDArray[np.int64]
    """Position in the pass after the last sample of each window."""


class WindowSampler(Sampler):
    """Sampler that shuffles blocks, and samples within windows of some consecutive shuffled blocks.

    It takes 8 bytes per block and 4 bytes per sample of two windows, independent of the number of samples. The order
    is a pure function of the seed, the pass and the position.

    Args:
        indices: indices of the selected samples in the source.
        seed: random seed of the run.
        block_ends: index in the source after the last sample of each block, ascending.
        num_blocks: number of blocks in a window.
    """

    def __init__(self, indices: Indices, seed: int, block_ends: npt.NDArray[np.int64], num_blocks: int):
        super().__init__(indices, seed, shuffle=True)
        ends = np.unique(indices.searchsorted(block_ends))  # without the blocks that have no selected sample
        self._block_ends = ends[ends > 0].astype(np.int64)
        self._num_blocks = num_blocks
        self._passes: dict[int, _Blocks] = {}
        self._windows: dict[tuple[int, int], npt.NDArray[np.signedinteger]] = {}

    def _rows(self, data_pass: int, begin: int, end: int) -> SampleRows:
        ends = self._blocks_of_pass(data_pass).window_ends
        rows = np.zeros((end - begin, 3), np.int64)
        rows[:, PASS] = data_pass
        position = begin
        while position < end:
            number = int(ends.searchsorted(position, side="right"))
            window_begin, window_end = int(ends[number - 1]) if number else 0, min(int(ends[number]), end)
            positions = self._window(data_pass, number)[position - window_begin : window_end - window_begin]
            rows[position - begin : window_end - begin, INDEX] = self.indices[positions]
            position = window_end
        return rows

    def _draw_ahead(self, data_pass: int) -> None:
        """Do nothing: drawing a window takes milliseconds."""

    def _blocks_of_pass(self, data_pass: int) -> _Blocks:
        """Return the order of the blocks; that of the last two passes is cached, because a batch may span both."""
        blocks = self._passes.get(data_pass)
        if blocks is None:
            random = np.random.default_rng((self.seed, data_pass, SHUFFLE_BLOCKS_KEY))
            order = random.permutation(len(self._block_ends))
            ends = np.cumsum(np.diff(self._block_ends, prepend=0)[order])
            last = np.arange(self._num_blocks - 1, len(order) + self._num_blocks - 1, self._num_blocks)
            blocks = _Blocks(order, ends[np.minimum(last, len(order) - 1)])
            # Replaced, not modified: several threads may read it.
            self._passes = {**dict(list(self._passes.items())[-1:]), data_pass: blocks}
        return blocks

    def _window(self, data_pass: int, number: int) -> npt.NDArray[np.signedinteger]:
        """Return the positions of the samples in a window among the selected ones; the last two are cached."""
        key = (data_pass, number)
        window = self._windows.get(key)
        if window is None:
            begin = number * self._num_blocks
            members = self._blocks_of_pass(data_pass).order[begin : begin + self._num_blocks]
            parts = [
                np.arange(self._block_ends[block - 1] if block else 0, self._block_ends[block], dtype=self._dtype)
                for block in members.tolist()
            ]
            random = np.random.default_rng((self.seed, data_pass, SHUFFLE_WINDOW_KEY, number))
            window = random.permutation(np.concatenate(parts))
            self._windows = {**dict(list(self._windows.items())[-1:]), key: window}
        return window
