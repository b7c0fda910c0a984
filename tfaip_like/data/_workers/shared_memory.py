"""Shared memory between processes, and objects packed into it.

The memory is anonymous (memfd): the kernel frees it with the last process that holds it, even if that is killed, and
the small /dev/shm of containers does not limit it.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import struct
import tempfile
import weakref
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Self

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
_HEADER = struct.Struct("<qq")
"""Position and length of the table of buffers."""


class SharedFile:
    """Unnamed file, in memory or on disk, that other processes can map.

    Only `pack` can pickle it: the descriptor is passed to the other process.
    """

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._end = 0
        self._allocated: dict[int, int] = {}
        """Arrays from `allocate`: address -> position in the file."""

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

    def start_over(self) -> None:
        """Let the next `allocate` or `pack` overwrite the file from its start."""
        self._end = ALIGNMENT  # after the header of `pack`
        self._allocated.clear()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array in the file, with undefined values; `pack` does not copy it."""
        size = math.prod(shape) * dtype.itemsize
        begin = self.reserve(size)
        array = np.frombuffer(self.view(begin + size)[begin:], dtype, count=math.prod(shape)).reshape(shape)
        self._allocated[array.ctypes.data] = begin
        return array

    def reserve(self, size: int) -> int:
        """Return the position of the next free bytes, and count them as used."""
        begin = self._end
        self._end += _align(size)
        return begin

    def find(self, part: memoryview) -> int | None:
        """Return the position in the file of an array from `allocate`; None for any other."""
        if not self._allocated or not part.nbytes:
            return None
        return self._allocated.get(np.frombuffer(part, np.uint8).ctypes.data)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        done = 0
        while done < len(data):
            done += os.write(self.descriptor, memoryview(data)[done:])

    def __reduce__(self) -> Any:
        raise TypeError("only pack() can pass a SharedFile to another process")


def pack(value: Any, memory: SharedFile, files: list[SharedFile] | None = None) -> None:
    """Serialize an object into `memory`: the raw arrays, the pickle, and a table of their positions and sizes.

    Args:
        value: object to serialize.
        memory: target; overwritten after the arrays that it has allocated since `start_over`.
        files: collects the shared files inside the object, whose descriptors the caller must pass on. If given,
            memory-mapped arrays are mapped again on the other side instead of copied.
    """
    arrays: list[memoryview] = []
    stream = BytesIO()
    pickler = _Pickler(stream, protocol=5, buffer_callback=lambda buffer: arrays.append(buffer.raw()))
    pickler.files = files
    pickler.dump(value)
    parts = [stream.getbuffer(), *arrays]
    positions = [memory.find(part) for part in parts]
    new = {number: memory.reserve(parts[number].nbytes) for number, known in enumerate(positions) if known is None}
    table = np.array([[new.get(n, positions[n]), part.nbytes] for n, part in enumerate(parts)], np.int64)
    begin = memory.reserve(table.nbytes)
    view = memory.view(begin + table.nbytes)
    for number, position in new.items():
        view[position : position + parts[number].nbytes] = parts[number]
    view[begin : begin + table.nbytes] = table.data.cast("B")
    view[: _HEADER.size] = _HEADER.pack(begin, len(table))


def unpack(memory: SharedFile, files: Sequence[SharedFile] = ()) -> Any:
    """Return a copy of the packed object."""
    return _load([bytearray(part) for part in _read_buffers(memory)], files)


def unpack_views(
    memory: SharedFile, files: Sequence[SharedFile] = (), on_release: Callable[[], None] | None = None
) -> Any:
    """Return the packed object with arrays that are views of `memory`.

    Args:
        memory: result of `pack`.
        files: shared files inside the object.
        on_release: called when none of the views exists any more, in any thread; makes them writable.
    """
    view = memory.view(len(memory))
    if on_release is None:
        return _load([part.toreadonly() for part in _read_buffers(memory, view)], files)
    whole = np.frombuffer(view, np.uint8)  # which every view refers to
    weakref.finalize(whole, on_release).atexit = False
    return _load(_read_buffers(memory, whole.data), files)


def _load(parts: Sequence[Any], files: Sequence[SharedFile]) -> Any:
    unpickler = _Unpickler(BytesIO(parts[0]), buffers=parts[1:])
    unpickler.files = files
    return unpickler.load()


def pickle_contains(memory: SharedFile, word: bytes) -> bool:
    """Return whether a word occurs in the pickle of the packed object."""
    return word in bytes(_read_buffers(memory)[0])


def _read_buffers(memory: SharedFile, view: memoryview | None = None) -> list[memoryview]:
    view = memory.view(len(memory)) if view is None else view
    begin, count = _HEADER.unpack(view[: _HEADER.size])
    table = np.frombuffer(view[begin:], np.int64, 2 * count).reshape(count, 2).tolist()
    return [view[position : position + size] for position, size in table]


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
