"""Shared memory between processes, and objects packed into it.

The memory is anonymous (memfd): the kernel frees it with the last process that holds it, even if that is killed, and
the small /dev/shm of containers does not limit it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Self

import numpy as np

ALIGNMENT = 64


class SharedFile:
    """Unnamed file, in memory or on disk, that other processes can map.

    Only `pack` can pickle it: the descriptor is passed to the other process.
    """

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def in_memory(cls) -> Self:
        """Create a file in memory."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("tfaip_like"))
        return cls.on_disk()

    @classmethod
    def on_disk(cls) -> Self:
        """Create an unnamed file in the directory for temporary files."""
        with tempfile.TemporaryFile(prefix="tfaip_like-") as file:
            return cls(os.dup(file.fileno()))

    def close(self) -> None:
        """Close the file; arrays that are views of it keep their memory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self._map = None

    def __del__(self) -> None:
        if os is not None:  # None at interpreter shutdown
            self.close()

    def __len__(self) -> int:
        return os.fstat(self.descriptor).st_size

    def view(self, size: int) -> memoryview:
        """Return a writable view of the first `size` bytes; the file grows to that size."""
        if self._map is None or len(self._map) < size:
            if len(self) < size:
                os.ftruncate(self.descriptor, size)
            # Arrays may still be views of the old map, so it is closed with the last of them, not here.
            self._map = mmap.mmap(self.descriptor, len(self))
        return memoryview(self._map)[:size]

    def write(self, data: bytes) -> None:
        """Append bytes."""
        done = 0
        while done < len(data):
            done += os.write(self.descriptor, memoryview(data)[done:])

    def __reduce__(self) -> Any:
        raise TypeError("only pack() can pass a SharedFile to another process")


def pack(value: Any, memory: SharedFile, files: list[SharedFile] | None = None) -> None:
    """Serialize an object into `memory`: sizes of the buffers, the pickle, then the raw arrays.

    Args:
        value: object to serialize.
        memory: target; overwritten from its start.
        files: collects the shared files inside the object, whose descriptors the caller must pass on. If given,
            memory-mapped arrays are mapped again on the other side instead of copied.
    """
    arrays: list[memoryview] = []
    stream = BytesIO()
    pickler = _Pickler(stream, protocol=5, buffer_callback=lambda buffer: arrays.append(buffer.raw()))
    pickler.files = files
    pickler.dump(value)
    parts = [stream.getbuffer(), *arrays]
    sizes = np.array([len(parts), *(part.nbytes for part in parts)], np.int64)
    view = memory.view(sum(_align(part.nbytes) for part in (sizes.data, *parts)))
    begin = 0
    for part in (sizes.data.cast("B"), *parts):
        view[begin : begin + part.nbytes] = part
        begin += _align(part.nbytes)


def unpack(memory: SharedFile, files: Sequence[SharedFile] = (), copy: bool = True) -> Any:
    """Return the packed object; without `copy` its arrays are read-only views of `memory`."""
    parts = [bytearray(part) if copy else part.toreadonly() for part in _read_buffers(memory)]
    unpickler = _Unpickler(BytesIO(parts[0]), buffers=parts[1:])
    unpickler.files = files
    return unpickler.load()


def pickle_contains(memory: SharedFile, word: bytes) -> bool:
    """Return whether a word occurs in the pickle of the packed object."""
    return word in bytes(_read_buffers(memory)[0])


def _read_buffers(memory: SharedFile) -> list[memoryview]:
    count = int(np.frombuffer(memory.view(8), np.int64)[0])
    sizes = np.frombuffer(memory.view(8 * (count + 1))[8:], np.int64).tolist()
    begin = _align(8 * (count + 1))
    view = memory.view(begin + sum(map(_align, sizes)))
    parts = []
    for size in sizes:
        parts.append(view[begin : begin + size])
        begin += _align(size)
    return parts


class _Pickler(pickle.Pickler):
    files: list[SharedFile] | None = None

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, SharedFile) and self.files is not None:
            self.files.append(value)
            return len(self.files) - 1
        return None

    def reducer_override(self, value: Any) -> Any:
        # A memory-mapped array may exceed the main memory: it is mapped again, not copied.
        if self.files is not None and isinstance(value, np.ndarray) and (mapped := _find_memmap(value)) is not None:
            offset = mapped.offset + value.ctypes.data - mapped.ctypes.data
            return _reopen_memmap, (str(mapped.filename), value.dtype, value.shape, offset, value.strides)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    files: Sequence[SharedFile] = ()

    def persistent_load(self, number: Any) -> Any:
        return self.files[number]


def _find_memmap(array: Any) -> np.memmap[Any, Any] | None:
    """Return the memory map that an array is a view of."""
    while array is not None:
        if isinstance(array, np.memmap) and not isinstance(array.base, np.memmap):
            return array if array.filename and array.mode != "c" else None
        array = getattr(array, "base", None)
    return None


def _reopen_memmap(
    file: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, strides: tuple[int, ...]
) -> Any:
    file_bytes = np.memmap(file, dtype=np.uint8, mode="r")
    return np.ndarray(shape, dtype, buffer=file_bytes, offset=offset, strides=strides)


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
