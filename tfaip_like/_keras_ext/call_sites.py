"""Where in the user's code the layers of a network were called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfaip_like._user_code.code_errors import record_call_site


@contextmanager
def record_call_sites() -> Iterator[None]:
    """Note the line of each layer and operation that is called symbolically in the block.

    Shapes and types are checked there with symbols only: a layer may raise later, when no code of the user runs.
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
