"""Copies of the values of variables, which another thread uses while training changes the variables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def read_array(variable: keras.Variable) -> Array:
    """Return the value of a variable, on a CPU usually without a copy: copy it before the next step overwrites it.

    On TensorFlow `keras.ops.convert_to_numpy` copies twice, into new memory, which takes 30 times as long as one into
    memory that is in use (Keras 3.15).
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensor = tf.convert_to_tensor(variable.value)
        # NumPy lacks other floats (bfloat16), and DLPack Booleans and strings.
        dtype = np.dtype(tensor.dtype.as_numpy_dtype)
        is_number = dtype.isbuiltin == 1 and dtype.kind in "iuf"
        if tensor.device.endswith("CPU:0") and is_number:
            return np.from_dlpack(tensor)
    array: Array = keras.ops.convert_to_numpy(variable.value)
    return array


class Buffers:
    """Memory of copies, used again for later ones: the first write to new memory takes longer than the copy itself.

    Example:
        >>> buffers = Buffers()
        >>> copy = buffers.copy(np.ones(3))
        >>> buffers.release([copy])
        >>> buffers.copy(np.zeros(3)) is copy
        True
    """

    def __init__(self) -> None:
        self._free: defaultdict[tuple[tuple[int, ...], np.dtype[Any]], list[Array]] = defaultdict(list)

    def copy(self, array: Array) -> Array:
        """Return a copy of an array."""
        free = self._free[array.shape, array.dtype]
        target = free.pop() if free else np.empty(array.shape, array.dtype)
        np.copyto(target, array)
        return target

    def release(self, arrays: Iterable[Array]) -> None:
        """Allow copies to be overwritten by later ones."""
        for array in arrays:
            self._free[array.shape, array.dtype].append(array)


class Snapshot:
    """Values of variables at one time.

    Args:
        variables: variables to copy.
        buffers: memory of the copies.

    Example:
        >>> weight = keras.Variable([1.0])
        >>> snapshot = Snapshot([weight], Buffers())
        >>> _ = weight.assign([2.0])
        >>> with snapshot.use():
        ...     print(keras.ops.convert_to_numpy(weight.value))
        [1.]
    """

    def __init__(self, variables: Iterable[keras.Variable], buffers: Buffers):
        unique = {id(variable): variable for variable in variables}
        self._values = [(variable, buffers.copy(read_array(variable))) for variable in unique.values()]
        self._buffers = buffers

    def use(self) -> keras.StatelessScope:
        """Return a context in which the variables have these values, in this thread only."""
        return keras.StatelessScope(state_mapping=self._values)

    def release(self) -> None:
        """Allow the copies to be overwritten; the snapshot cannot be used any more."""
        self._buffers.release(value for _, value in self._values)
        self._values = []
