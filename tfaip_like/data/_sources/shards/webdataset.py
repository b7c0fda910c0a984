"""`WebDatasetSource`: data source of tar files in the format of WebDataset, read in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError, short_error_message, truncate_list
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.images import IMAGE_SUFFIXES, Color, check_color, decode_image
from tfaip_like.data._sources.shards.source import (
    MAX_OPEN_SHARDS,
    ShardedSource,
    find_shards,
    samples_per_block,
    split_into_blocks,
)
from tfaip_like.data._sources.shards.tar_index import TarIndex, default_index_dir, load_index

Decoder = Callable[[bytes], Any]

TAR_HEADER_BYTES, MAX_NAME_BYTES = 512, 100
"""Size of the header before each file in a tar file, and of the name at its beginning."""


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8")


def _decode_numpy(data: bytes) -> Any:
    return np.load(BytesIO(data), allow_pickle=False)


DECODERS: Mapping[str, Decoder] = {
    **dict.fromkeys(("cls", "class", "count", "id", "index"), int),
    **dict.fromkeys(("txt", "text", "transcript"), _decode_text),
    "json": json.loads,
    "npy": _decode_numpy,
}
"""Decoders of extensions other than images, as in WebDataset."""


class WebDatasetSource(ShardedSource):
    """Data source of WebDataset shards: tar files in which the files of a sample follow each other.

    The first use of a shard reads its headers and writes an index with 16 bytes per file, for random access to its
    samples; a shard that has changed since then is an error. Images become arrays of uint8, `.cls` an integer,
    `.txt` a text, `.json` any value, `.npy` an array.

    Args:
        files: paths or glob patterns of uncompressed tar files; their samples are concatenated in this order.
        inputs: extension of the file of each input; alternatives are separated by semicolons, as in `"jpg;png"`.
        targets: extension of the file of each target; None for no targets.
        meta: extension of the file of each entry of `Sample.meta`; None for no meta.
        color: color mode of images, see `read_image`.
        size: height and width in pixels to resize images to; None keeps their sizes.
        decoders: functions that convert the bytes of files, by extension; defined at the top level of a module.
        index_dir: directory of the indexes; by default `~/.cache/tfaip_like/shards`.

    Raises:
        UsageError: if a shard is damaged, has changed since its index was built, or contains none of the extensions.

    Example::

        source = WebDatasetSource("data/train-*.tar", inputs={"image": "jpg;png"}, targets={"label": "cls"})
    """

    def __init__(
        self,
        files: Iterable[str | Path] | str | Path,
        inputs: Mapping[str, str],
        targets: Mapping[str, str] | None = None,
        meta: Mapping[str, str] | None = None,
        color: Color = "RGB",
        size: tuple[int, int] | None = None,
        decoders: Mapping[str, Decoder] | None = None,
        index_dir: Path | None = None,
    ):
        check_color(color)
        self.color: Color = color
        self.size = size
        self.decoders = {**DECODERS, **(decoders or {})}
        self.index_dir = default_index_dir() if index_dir is None else Path(index_dir)
        self._extensions = [
            {name: text.lower().split(";") for name, text in group.items()}
            for group in (inputs, targets or {}, meta or {})
        ]
        self._check_decoders()
        shards = find_shards(files, type(self).__name__, self._scan)
        super().__init__(
            list(shards),
            [stamp for stamp, _ in shards.values()],
            [split_into_blocks(count, size) for (size, _), count in shards.values()],
        )

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        number, row = self.locate(index)
        shard: _Shard = self._cached_shards(number)
        where = self.describe(index)
        shard.announce(row)
        inputs, targets, meta = (
            {name: self._read(shard, row, names, where) for name, names in group.items()} for group in self._extensions
        )
        return Sample(inputs, targets, meta=meta)

    @cached_property
    def _cached_shards(self) -> Callable[[int], _Shard]:
        """Return a function that opens a shard."""
        return lru_cache(MAX_OPEN_SHARDS)(self._open)

    def _open(self, number: int) -> _Shard:
        file = self.check_unchanged(number)
        return _Shard(file, load_index(file, self.index_dir)[0])

    def _scan(self, file: str) -> tuple[tuple[int, int], int]:
        """Return the stamp and the number of samples of a shard."""
        index, stamp = load_index(file, self.index_dir)
        available = index.dtype.names or ()
        for group in self._extensions:
            for names in group.values():
                if len(index) and not set(names) & set(available):
                    have = truncate_list(available)
                    raise UsageError(f"{file}: contains no file with the extension {' or '.join(names)}, but {have}")
        return stamp, len(index)

    def _check_decoders(self) -> None:
        for name in (name for group in self._extensions for names in group.values() for name in names):
            if name not in self.decoders and not f".{name}".endswith(IMAGE_SUFFIXES):
                raise UsageError(
                    f"WebDatasetSource: no decoder of {name!r} files; pass decoders={{{name!r}: function}}"
                )

    def _read(self, shard: _Shard, row: int, names: list[str], where: str) -> Any:
        extension, data = shard.read(row, names, where)
        try:
            decoder = self.decoders.get(extension)
            return decoder(data) if decoder else self._decode_image(data)
        except Exception as error:  # decoders raise exceptions of many types
            reason = short_error_message(error)
            member = shard.member_name(row, extension)
            raise UsageError(f"{where}, {member}: cannot be read as {extension}: {reason}") from error

    def _decode_image(self, data: bytes) -> Any:
        return decode_image(data, self.color, self.size)


class _Shard:
    """Open tar file with its index.

    Args:
        file: path of the tar file.
        index: its index.
    """

    def __init__(self, file: str, index: TarIndex):
        self._descriptor = os.open(to_path(file), os.O_RDONLY | os.O_CLOEXEC)
        self._index = index
        self._fields = {name: index[name] for name in index.dtype.names or ()}
        self._block_size = samples_per_block(len(index), os.fstat(self._descriptor).st_size)
        self._announced: set[int] = set()

    def __del__(self) -> None:
        if os is not None and hasattr(self, "_descriptor"):  # None at interpreter shutdown
            os.close(self._descriptor)

    def announce(self, row: int) -> None:
        """Request the read-ahead of the block of a sample, whose other samples follow within the shuffle window."""
        block = row // self._block_size
        if block in self._announced or not hasattr(os, "posix_fadvise"):
            return
        self._announced.add(block)
        records = self._index[block * self._block_size : (block + 1) * self._block_size]
        offsets = np.stack([records[name] for name in self._fields], axis=1)
        end = int(offsets.sum(axis=2).max())
        begin = int(offsets[..., 0].min(where=offsets[..., 0] >= 0, initial=end))
        os.posix_fadvise(self._descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)

    def read(self, row: int, extensions: Sequence[str], where: str) -> tuple[str, bytes]:
        """Return the first of some extensions that a sample has, and its file.

        Args:
            row: position of the sample in the shard.
            extensions: extensions to look for.
            where: description of the sample, for error messages.

        Raises:
            UsageError: if the sample has none of the extensions, or the file cannot be read.
        """
        for extension in extensions:
            offset, size = self._fields[extension][row].tolist() if extension in self._fields else (-1, -1)
            if offset >= 0:
                break
        else:
            have = truncate_list([name for name, field in self._fields.items() if field[row, 0] >= 0])
            raise UsageError(f"{where}: has no file with the extension {' or '.join(extensions)}, but {have}")
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise UsageError(f"{where}: {error.strerror}") from error
        if len(data) < size:
            raise UsageError(f"{where}: truncated tar file")
        return extension, data

    def member_name(self, row: int, extension: str) -> str:
        """Return the name of a file, or its first 100 bytes, from its header."""
        header = os.pread(self._descriptor, MAX_NAME_BYTES, int(self._fields[extension][row, 0]) - TAR_HEADER_BYTES)
        return header.rstrip(b"\0").decode("utf-8", "replace")
