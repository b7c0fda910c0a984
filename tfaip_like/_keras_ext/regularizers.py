"""Activity regularizers that sum in float32 under mixed precision.

Keras sums the squares of a float16 activation in float16, whose maximum is 65504, so the penalty of a few thousand
values overflows to infinity.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

_PATCHED_ATTRIBUTE = "_sums_in_float32"


def install() -> None:
    """Patch the regularizers of Keras to sum in float32 or a wider dtype."""
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
