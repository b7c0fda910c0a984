"""`ArrayRecordSource`: data source of ArrayRecord files, read in place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import _lru_cache_wrapper, cached_property, lru_cache
from pathlib import Path
from typing import Any

from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.shards.source import (
    MAX_OPEN_SHARDS,
    ShardedSource,
    find_shards,
    split_into_blocks,
    stamp_of,
)

READER_BUFFER_BYTES = 2**14


class ArrayRecordSource(ShardedSource):
    """Data source of the records of ArrayRecord files, a format for fast random access.

    Args:
        files: paths or glob patterns; their records are concatenated in this order.
        parse: function that returns the sample of a record (bytes), or a tuple (x, y); defined at the top level of a
            module, so that data workers can import it.

    Raises:
        UsageError: if a file cannot be read.

    Example::

        def parse(record: bytes) -> Sample:
            values = np.frombuffer(record, "float32")
            return Sample({"x": values[:-1]}, {"y": values[-1]})


        source = ArrayRecordSource("data/train.array_record-*", parse)
    """

    def __init__(self, files: Iterable[str | Path] | str | Path, parse: Callable[[bytes], Any]):
        self.parse = parse
        shards = find_shards(files, type(self).__name__, lambda file: (stamp_of(file), _open(file).num_records()))
        super().__init__(
            list(shards),
            [stamp for stamp, _ in shards.values()],
            [split_into_blocks(count, size) for (size, _), count in shards.values()],
        )

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        number, row = self.locate(index)
        try:
            reader = self._cached_readers(number)
            with self._cached_lock:
                # Not `read([row])`, which takes 2 ms in a file of 100,000 records, 100 times as long.
                reader.seek(row)
                record = reader.read()
        except UsageError:
            raise
        except Exception as error:  # the reader raises exceptions of many types
            self._cached_readers.cache_clear()  # a reader that has failed once fails for good
            raise UsageError(f"{self.describe(index)}: cannot be read: {short_error_message(error)}") from error
        sample: Sample = self.parse(record)  # a tuple is converted by the data loader
        return sample

    @cached_property
    def _cached_lock(self) -> threading.Lock:
        """Return the lock of the positions of readers."""
        return threading.Lock()

    @cached_property
    def _cached_readers(self) -> _lru_cache_wrapper[Any]:
        """Return a function that opens a shard."""
        return lru_cache(MAX_OPEN_SHARDS)(lambda number: _open(self.check_unchanged(number)))


def _open(file: str) -> Any:
    """Return a reader of an ArrayRecord file."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ModuleNotFoundError:
        raise UsageError(
            f"{file}: reading ArrayRecord files needs array_record; pip install 'tfaip_like[array_record]'"
        ) from None
    # Without the large buffers and threads for sequential reading, which each of many open readers would have.
    options = "readahead_buffer_size:0,max_parallelism:0"
    reader = ArrayRecordReader(os.fspath(to_path(file)), options, file_reader_buffer_size=READER_BUFFER_BYTES)
    if not reader.ok():
        raise UsageError(f"{file}: not a readable ArrayRecord file; it is damaged, or has another format")
    return reader
