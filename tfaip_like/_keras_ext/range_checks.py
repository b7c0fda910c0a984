"""Range checks of ids and labels: out-of-range values become NaN on every backend.

Keras leaves them undefined: an id beyond the vocabulary of an `Embedding` raises an error on a CPU, reads another row
under XLA and returns zeros on a GPU; a negative id reads a row from the end; a label beyond the number of classes
raises an error, or yields NaN or a loss of 0. Here the rows of such ids and the losses of such labels are NaN, which
propagates to everything computed from them. A maximum may drop a NaN (under XLA, and in every pooling layer), so a
`RangeRecorder` passes the mask of valid values around the network. Rows of valid ids and their gradients do not change
by a bit.

Patched are `keras.layers.Embedding` with its subclasses, `keras.layers.CategoryEncoding`, and all functions of Keras
with integer labels: sparse categorical cross-entropy, CTC, generalized cross-entropy, top-k accuracy. Not patched are
`keras.ops.take`, `keras.ops.one_hot` and functions of TensorFlow or JAX.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from keras.src import backend
from keras.src.losses import losses

from tfaip_like._utils.errors import UsageError

Kind = Literal["id", "label"]

ID_OUT_OF_RANGE = "id out of range for"
"""Prefix of the assertion messages of exports, by which `_export.exported_model` recognizes them."""


@dataclass(frozen=True)
class OutOfRange:
    """Id or label out of range."""

    kind: Kind
    value: float
    size: int
    """Number of valid values: 0 to `size` - 1."""
    layer: str | None
    """Class and name of the layer; None for a loss or metric."""

    def __str__(self) -> str:
        where = f"for {self.layer}" if self.layer else f"for {self.size} classes"
        # Keras passes ids as floats unless a layer requires another type.
        value = int(self.value) if math.isfinite(self.value) and self.value == int(self.value) else self.value
        return f"{self.kind} {value} is out of range {where} (0..{self.size - 1})"


@dataclass(frozen=True)
class _RangeCheck:
    """Check of one call of a layer, loss or metric."""

    kind: Kind
    is_valid: Any
    values: Any
    size: int
    layer: str | None


class RangeRecorder:
    """Context manager that records the range checks of the layers and losses called in its block.

    Checks inside a loop or a nested function of the backend are recorded in eager mode only.
    """

    def __init__(self) -> None:
        self._checks: list[_RangeCheck] = []

    def __enter__(self) -> RangeRecorder:
        self._trace_scope = _trace_scope()
        self._token = _recorders.set((*_recorders.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _recorders.reset(self._token)

    def _record(self, check: _RangeCheck) -> None:
        # A tensor must not leave the loop or function in which it was traced.
        if self._trace_scope == _trace_scope():
            self._checks.append(check)

    def mask_invalid_samples(self, values: Any) -> Any:
        """Return tensors with NaN for each sample that has an id out of range, and clear the recorded checks.

        If the first axis of a tensor differs from that of the ids, one id out of range makes the whole tensor NaN.

        Args:
            values: tensor or nested structure of tensors.
        """
        checks, self._checks = self._checks, []  # tensors of a trace must not outlive it
        masks = [check.is_valid for check in checks if check.kind == "id"]

        def mask_value(value: Any) -> Any:
            return functools.reduce(
                lambda value, mask: _or_nan(_all_valid_per_sample(mask, value), value), masks, value
            )

        return keras.tree.map_structure(mask_value, values)

    def first_out_of_range(self, kind: Kind) -> OutOfRange | None:
        """Return the first value out of range among the checks recorded in eager mode, if any."""
        for check in self._checks:
            is_valid = ops.convert_to_numpy(check.is_valid)
            if check.kind == kind and not is_valid.all():
                values = np.broadcast_to(ops.convert_to_numpy(check.values), is_valid.shape)
                return OutOfRange(kind, values[~is_valid][0].item(), check.size, check.layer)
        return None


_recorders: ContextVar[tuple[RangeRecorder, ...]] = ContextVar("recorders", default=())
_assert_enabled: ContextVar[bool] = ContextVar("assert_enabled", default=False)

_PATCHED_ATTRIBUTE = "_checks_range"


@contextmanager
def assert_ids_in_range() -> Iterator[None]:
    """Add assertions that ids are in range, with the name of the layer, to functions TensorFlow traces in the block.

    For exports, because an integer output cannot be NaN. XLA omits assertions, so they cannot stop a training.
    """
    token = _assert_enabled.set(keras.backend.backend() == "tensorflow")
    try:
        yield
    finally:
        _assert_enabled.reset(token)


@contextmanager
def run_eagerly() -> Iterator[None]:
    """Run loops of the backend eagerly in the block, so that a `RangeRecorder` records their checks."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    with jax.disable_jit():
        yield


def check_int32_overflow(kind: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check that JAX, which computes with 32-bit integers, does not truncate the integers of a batch.

    Args:
        kind: kind of the arrays (inputs, targets), for the message.
        arrays: arrays of a batch by name.

    Raises:
        UsageError: if a value exceeds 32 bits.
    """
    if keras.backend.backend() != "jax":
        return
    for name, array in arrays.items():
        if array.dtype in (np.int64, np.uint64, np.uint32) and array.size:
            largest = max(int(array.max()), -int(array.min()) - 1)
            if largest > np.iinfo(np.int32).max:
                raise UsageError(
                    f"{kind} {name!r} has values from {int(array.min())} to {int(array.max())}, but JAX uses "
                    "32-bit integers; use --device.backend tensorflow or smaller numbers"
                )


def install() -> None:
    """Patch Keras so that ids and labels out of range yield NaN; see the module docstring."""
    embedding, encoding = keras.layers.Embedding, keras.layers.CategoryEncoding
    for owner, name, add_check in (
        (embedding, "call", _checked_embedding),
        (embedding, "_int8_call", _checked_embedding),
        (embedding, "_int4_call", _checked_embedding),
        (encoding, "call", _checked_encoding),
        (backend.nn, "sparse_categorical_crossentropy", _checked_cross_entropy),
        (backend.nn, "ctc_loss", _checked_ctc),
        (backend.math, "in_top_k", _checked_in_top_k),
        (losses, "categorical_generalized_cross_entropy", _checked_generalized_cross_entropy),
        (keras.losses, "categorical_generalized_cross_entropy", _checked_generalized_cross_entropy),
    ):
        original = getattr(owner, name, None)
        if original is not None and not hasattr(original, _PATCHED_ATTRIBUTE):
            function = functools.wraps(original)(add_check(original))
            setattr(function, _PATCHED_ATTRIBUTE, True)
            setattr(owner, name, function)


def _checked_embedding(call: Callable[..., Any]) -> Callable[..., Any]:
    def embed(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_sparse(inputs):
            return call(self, inputs, *args, **kwargs)
        is_valid, ids = _check_range("id", inputs, self.input_dim, f"{type(self).__name__} {self.name!r}")
        return _or_nan(ops.expand_dims(is_valid, -1), call(self, ids, *args, **kwargs))

    return embed


def _checked_encoding(call: Callable[..., Any]) -> Callable[..., Any]:
    def encode(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # In a tf.data pipeline the tensors are TensorFlow's on every backend.
        if self.sparse or _is_sparse(inputs) or not keras.ops.is_tensor(inputs):
            return call(self, inputs, *args, **kwargs)
        is_valid, ids = _check_range("id", inputs, self.num_tokens, f"{type(self).__name__} {self.name!r}")
        return _or_nan(ops.all(is_valid), call(self, ids, *args, **kwargs))

    return encode


def _checked_cross_entropy(compute: Callable[..., Any]) -> Callable[..., Any]:
    def cross_entropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
        labels = ops.convert_to_tensor(target)
        if len(labels.shape) == len(output.shape) and labels.shape[axis] == 1:
            labels = ops.squeeze(labels, axis)
        is_valid, labels = _check_range("label", labels, _num_classes(output, axis))
        return _or_nan(is_valid, compute(labels, output, from_logits=from_logits, axis=axis))

    return cross_entropy


def _checked_generalized_cross_entropy(compute: Callable[..., Any]) -> Callable[..., Any]:
    def cross_entropy(y_true: Any, y_pred: Any, q: float) -> Any:
        is_valid, labels = _check_range("label", y_true, _num_classes(y_pred, -1))
        loss = compute(labels, y_pred, q)
        return _or_nan(is_valid if is_valid.shape == loss.shape else ops.all(is_valid), loss)

    return cross_entropy


def _checked_ctc(compute: Callable[..., Any]) -> Callable[..., Any]:
    def ctc(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Any:
        labels = ops.convert_to_tensor(target)
        lengths = ops.expand_dims(ops.cast(target_length, "int32"), -1)
        is_label = ops.expand_dims(ops.arange(ops.shape(labels)[-1], dtype="int32"), 0) < lengths
        is_valid, labels = _check_range(
            "label", ops.where(is_label, labels, ops.zeros_like(labels)), _num_classes(output, -1)
        )
        loss = compute(labels, output, target_length, output_length, mask_index=mask_index)
        return _or_nan(ops.all(is_valid, axis=-1), loss)

    return ctc


def _checked_in_top_k(compute: Callable[..., Any]) -> Callable[..., Any]:
    def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
        is_valid, labels = _check_range("label", targets, _num_classes(predictions, -1))
        return ops.logical_and(is_valid, compute(labels, predictions, k))

    return in_top_k


def _check_range(kind: Kind, values: Any, size: Any, layer: str | None = None) -> tuple[Any, Any]:
    """Return whether each value is in range, and the values with 0 in place of those out of range."""
    values = ops.convert_to_tensor(values)
    is_valid = _is_in_range(values, size)
    if _assert_enabled.get() and kind == "id":
        _assert(is_valid, values, f"{ID_OUT_OF_RANGE} {layer} (0..{size - 1}):")
    if isinstance(size, int):
        for recorder in _recorders.get():
            recorder._record(_RangeCheck(kind, is_valid, values, size, layer))
    return is_valid, ops.where(is_valid, values, ops.zeros_like(values))


def _assert(is_valid: Any, values: Any, message: str) -> None:
    import tensorflow as tf

    def fail() -> Any:
        return tf.raw_ops.Assert(condition=False, data=[message, tf.boolean_mask(values, ~is_valid)[:1]])

    tf.cond(tf.reduce_all(is_valid), tf.no_op, fail)


def _is_in_range(values: Any, size: Any) -> Any:
    dtype = keras.backend.standardize_dtype(values.dtype)
    if dtype == "bool":
        values, dtype = ops.cast(values, "int32"), "int32"
    if not keras.backend.is_int_dtype(dtype):
        values = ops.cast(values, "float32") if dtype in ("float16", "bfloat16") else values
        return ops.logical_and(values >= 0, values < ops.cast(size, values.dtype))  # NaN is neither
    if isinstance(size, int):  # a uint8 cannot be compared with 300
        last = ops.convert_to_tensor(min(size - 1, int(np.iinfo(dtype).max)), dtype)
    else:
        values = ops.cast(values, "int32")
        last = ops.cast(size, "int32") - 1
    is_below = ops.less_equal(values, last)
    return is_below if dtype.startswith("u") else ops.logical_and(is_below, values >= 0)


def _or_nan(is_valid: Any, values: Any) -> Any:
    """Return the values where valid, NaN elsewhere; integers, which have no NaN, are returned as they are."""
    is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(values.dtype))
    return ops.where(is_valid, values, ops.cast(math.nan, values.dtype)) if is_float else values


def _all_valid_per_sample(is_valid: Any, value: Any) -> Any:
    """Return whether all ids of each sample are valid, in the shape of a tensor of samples.

    If a shape is unknown, the result is a single one for all samples.
    """
    shapes = tuple(value.shape), tuple(is_valid.shape)
    if not all(shapes) or None in (shapes[0][0], shapes[1][0]) or shapes[0][0] != shapes[1][0]:
        return ops.all(is_valid)
    sample_is_valid = ops.all(is_valid, axis=tuple(range(1, len(is_valid.shape))))
    return ops.reshape(sample_is_valid, (value.shape[0], *[1] * (len(value.shape) - 1)))


def _num_classes(output: Any, axis: int) -> Any:
    size = output.shape[axis]
    return ops.shape(output)[axis] if size is None else int(size)


def _is_sparse(tensor: Any) -> bool:
    return type(tensor).__name__ in ("SparseTensor", "RaggedTensor", "BCOO")


def _trace_scope() -> Any:
    """Return the graph or trace that operations are added to; equal for two tensors that can be combined."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    if keras.backend.backend() == "jax":
        from jax.extend.core import get_opaque_trace_state

        return get_opaque_trace_state(convention="flax")  # type: ignore[no-untyped-call]
    return None
