"""Detection of accidental broadcasting in losses and metrics: (n,) with (n, 1) yields (n, n), all pairs of samples."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from tfaip_like._user_code.code_errors import CodeError

logger = logging.getLogger(__name__)

PROBE_BATCH_SIZE = 10_007
"""Batch size that is unlikely to be the size of another axis."""


def check_accidental_broadcasting(
    compute: Callable[[Any, Any, Any], Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    outputs: Mapping[str, Any],
) -> None:
    """Check that a loss or metric does not combine different samples, by computing it with symbolic tensors.

    A function that does not support symbolic tensors (with operations of TensorFlow or JAX) is not checked.

    Args:
        compute: function of inputs, targets and outputs.
        inputs: example batch, for shapes and dtypes.
        targets: targets of the example batch.
        outputs: outputs for the example batch.

    Raises:
        CodeError: if two tensors of different rank broadcast to a matrix of all pairs of samples.
    """
    symbolic_tensors = [
        {name: _symbolic_tensor(tensor) for name, tensor in tensors.items()} for tensors in (inputs, targets, outputs)
    ]
    try:
        with _raise_on_accidental_broadcasting():
            compute(*symbolic_tensors)
    except CodeError:
        raise
    except Exception as error:  # anything that symbolic tensors do not support
        logger.debug("%s does not support symbolic tensors: %s", compute.__qualname__, error)


def _symbolic_tensor(tensor: Any) -> keras.KerasTensor:
    return keras.KerasTensor((PROBE_BATCH_SIZE, *tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype))


@contextmanager
def _raise_on_accidental_broadcasting() -> Iterator[None]:
    method = keras.Operation.symbolic_call

    @functools.wraps(method)
    def symbolic_call(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        shapes = [tuple(part.shape) for part in keras.tree.flatten((args, kwargs)) if _is_symbolic(part)]
        batched = [shape for shape in shapes if shape[:1] == (PROBE_BATCH_SIZE,)]
        is_broadcast = _is_symbolic(result) and tuple(result.shape).count(PROBE_BATCH_SIZE) > 1
        if is_broadcast and len({len(shape) for shape in batched}) > 1:
            shape_texts = [
                str(shape).replace(str(PROBE_BATCH_SIZE), "batch") for shape in (*batched, tuple(result.shape))
            ]
            raise CodeError(
                f"{' and '.join(shape_texts[:-1])} broadcast to {shape_texts[-1]}, which combines each "
                "sample with all others; reshape both to the same shape, as in x[:, 0]"
            )
        return result

    keras.Operation.symbolic_call = symbolic_call
    try:
        yield
    finally:
        keras.Operation.symbolic_call = method


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)
