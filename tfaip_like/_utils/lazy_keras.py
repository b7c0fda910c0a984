"""Keras on first use: `from tfaip_like._utils.lazy_keras import keras, ops` costs nothing until it is needed.

Importing Keras with TensorFlow takes seconds; parsing a command line, help and the processes that
only read data must not pay for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfaip_like._utils.errors import UsageError

if TYPE_CHECKING:
    import keras
    from keras import ops
else:

    class _Lazy(ModuleType):
        """Keras module that is imported on first use."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):  # what inspect, pickle and doctest ask of every module
                raise AttributeError(name)
            return getattr(importlib.import_module(self.__name__), name)

    keras = _Lazy("keras")
    ops = _Lazy("keras.ops")

BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
"""Name of a Keras backend -> the module that must be installed for it."""


def set_backend(name: str) -> None:
    """Makes Keras compute with this backend; must come before Keras is first used.

    Raises:
        UsageError: when the backend is not installed, or Keras already runs on another.
    """
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "backend"):
        running = sys.modules["keras"].backend.backend()
        if running != name:
            raise UsageError(
                f"--device.backend {name}: Keras already runs on {running} in this process; choose the backend "
                "before Keras is first used, by the flag or by the environment variable KERAS_BACKEND"
            )
        return
    if importlib.util.find_spec(BACKENDS[name]) is None:
        raise UsageError(f"--device.backend {name}: {name} is not installed; pip install 'tfaip_like[{name}]'")
    set_variable("KERAS_BACKEND", name)
    # What TensorFlow's C++ side prints about the machine; its errors come as exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def set_variable(name: str, value: str) -> None:
    """Set an environment variable, and remember that the user had not set it so."""
    if os.environ.get(name) != value:
        os.environ[name] = value
        _SET_BY_US[name] = value


def is_set_by_us(name: str) -> bool:
    """Return whether an environment variable has its value from this package, not from the user."""
    return name in _SET_BY_US and os.environ.get(name) == _SET_BY_US[name]


_SET_BY_US: dict[str, str] = {}


def initialize_backend() -> None:
    """Imports Keras and its backend and makes a first tensor, with all that they print while they start.

    TensorFlow comes along on the other backends too: Keras needs it there to export.
    """
    importlib.import_module("tensorflow").constant(0)
    # Keras raises other exceptions in place of those of layers, without the frames that tell which layer it was.
    keras.config.disable_traceback_filtering()
    keras.ops.convert_to_numpy(keras.ops.zeros(()))


__all__ = ["BACKENDS", "initialize_backend", "is_set_by_us", "keras", "ops", "set_backend", "set_variable"]
