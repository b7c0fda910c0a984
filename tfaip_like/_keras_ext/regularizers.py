"""Penalties of activations under mixed precision, summed in float32.

Keras sums the squares of a float16 activation in float16, whose largest number is 65504: a penalty of a few thousand
values is infinite.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

_PATCHED_ATTRIBUTE = "sums_in_float32"


def install() -> None:
    """Let the regularizers of Keras sum in float32 at least."""
    for cls in (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2):
        call = cls.__call__
        if not hasattr(call, _PATCHED_ATTRIBUTE):
            cls.__call__ = _in_float32(call)


def _in_float32(call: Any) -> Any:
    @functools.wraps(call)
    def penalty(self: Any, x: Any) -> Any:
        is_half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
        return call(self, ops.cast(x, "float32") if is_half else x)

    setattr(penalty, _PATCHED_ATTRIBUTE, True)
    return penalty
