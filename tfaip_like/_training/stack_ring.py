"""Ring of preallocated stacks of batches, filled by a thread and read by compiled steps without a copy.

New memory for each stack would have to be mapped and zeroed by the kernel, and tf.data would copy each stack twice.
Measured on two cores (scripts/benchmarks/bare_loop.py): that took a quarter of an epoch.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._training.steps.training_model import to_model_inputs
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader, LoaderClosedError
from tfaip_like.data._sample import Spec

NUM_STACKS = 3
"""One is filled while two are in flight: see `StacksInFlight`."""


class Stack:
    """Batches of the steps of one execution.

    Args:
        batch: arrays of shape (maximum number of batches, batch size, ...), which the compiled steps read.
        release: called when the arrays may be overwritten.
    """

    def __init__(self, batch: Batch, release: Callable[[Stack], None]):
        self.batch = batch
        self.model_inputs = _share_with_tensorflow(to_model_inputs(batch))
        self._release = release

    def release(self) -> None:
        """Allow to overwrite the arrays; no program may be reading them."""
        self._release(self)


class StackRing:
    """Stacks that are filled and read in turn.

    Args:
        loader: loader of batches of equal shape.
        length: maximum number of batches in a stack.
    """

    def __init__(self, loader: DataLoader, length: int):
        self._free: SimpleQueue[Stack | None] = SimpleQueue()
        for _ in range(NUM_STACKS):
            self._free.put(Stack(_allocate(loader, length), self._free.put))

    def acquire(self) -> Stack:
        """Wait for a stack that may be overwritten, and return it.

        Raises:
            LoaderClosedError: if the ring was closed.
        """
        stack = self._free.get()
        if stack is None:
            self._free.put(None)
            raise LoaderClosedError
        return stack

    def close(self) -> None:
        """End all waiting for a stack."""
        self._free.put(None)


class StacksInFlight:
    """Stacks of the executions that the device may not have finished.

    Backends return before the device has finished. One execution at most waits for another: otherwise the rest of the
    epoch would, with its batches in memory, and a signal would not stop it.

    Args:
        wait: waits for the results of an execution.
    """

    def __init__(self, wait: Callable[[Mapping[str, Any]], object]):
        self._wait = wait
        self._executions: deque[tuple[Mapping[str, Any], Stack | None]] = deque()

    def add(self, results: Mapping[str, Any], stack: Stack | None) -> None:
        """Add an execution; wait for the one before it, and release its stack."""
        self._executions.append((results, stack))
        if len(self._executions) > 1:
            finished, read = self._executions.popleft()
            self._wait(finished)
            if read is not None:
                read.release()


def _allocate(loader: DataLoader, length: int) -> Batch:
    samples, size = loader.samples, loader.batch_size

    def arrays(specs: Mapping[str, Spec]) -> dict[str, npt.NDArray[Any]]:
        return {name: _aligned_zeros((length, size, *spec.shape), spec.dtype) for name, spec in specs.items()}

    weights = _aligned_zeros((length, size), "float32") if samples.has_weights else None
    return Batch(arrays(samples.inputs), arrays(samples.targets), weights)


def _aligned_zeros(shape: tuple[Any, ...], dtype: str) -> npt.NDArray[Any]:
    """Return an array that begins at a page: compiled programs read aligned memory in place, and copy other."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, max(1, nbytes)))


def _share_with_tensorflow(arrays: Any) -> Any:
    """Return tensors in the memory of the arrays on TensorFlow; arrays of dtypes that DLPack lacks stay."""
    if keras.backend.backend() != "tensorflow":
        return arrays
    import tensorflow as tf

    def share(array: npt.NDArray[Any]) -> Any:
        try:
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        except BufferError:  # bfloat16
            return array

    return tf.nest.map_structure(share, arrays)
