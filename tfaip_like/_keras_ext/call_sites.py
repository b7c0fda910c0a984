"""Lines of the user's code in which the layers of a network are called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfaip_like._user_code.code_errors import record_call_site


@contextmanager
def record_call_sites() -> Iterator[None]:
    """Record the line of each symbolic call of a layer or operation in the block.

    A symbolic call checks shapes and dtypes only. A layer may raise later, when the user's code is not on the stack.
    """
    methods = {cls: cls.symbolic_call for cls in (keras.Operation, keras.Layer)}
    for cls, method in methods.items():
        cls.symbolic_call = _with_call_site(method)
    try:
        yield
    finally:
        for cls, method in methods.items():
            cls.symbolic_call = method


def _with_call_site(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def symbolic_call(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        record_call_site(self, f"{type(self).__name__} {self.name!r}")
        return method(self, *args, **kwargs)

    return symbolic_call
