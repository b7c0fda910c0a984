"""Lazy import of Keras: `from tfaip_like._utils.lazy_keras import keras, ops` imports it on first use.

Importing Keras with TensorFlow takes seconds, which command-line parsing, help and data workers must not spend.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.lazy_imports import LazyModule

if TYPE_CHECKING:
    import keras
    from keras import ops
else:
    keras = LazyModule("keras")
    ops = LazyModule("keras.ops")

BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
"""Module that must be installed for each Keras backend."""


def set_backend(name: str) -> None:
    """Select the Keras backend; must be called before the first use of Keras.

    Args:
        name: tensorflow, jax or torch.

    Raises:
        UsageError: if the backend is not installed, or Keras already uses another one.
    """
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "backend"):
        running = sys.modules["keras"].backend.backend()
        if running != name:
            raise UsageError(
                f"--device.backend {name}: Keras already uses the {running} backend in this process; select the "
                "backend before importing Keras or TensorFlow, with the flag or the environment variable KERAS_BACKEND"
            )
        return
    if importlib.util.find_spec(BACKENDS[name]) is None:
        raise UsageError(f"--device.backend {name}: {name} is not installed; pip install 'tfaip_like[{name}]'")
    if name == "torch":
        _import_torch_before_tensorflow()
    set_variable("KERAS_BACKEND", name)
    # Silence TensorFlow's C++ messages about the machine; its errors are raised as exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def usable_backend(preferred: str, default: str) -> str:
    """Return the backend that Keras already uses in this process, else the preferred one if it is installed."""
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "backend"):
        return str(sys.modules["keras"].backend.backend())
    return preferred if importlib.util.find_spec(BACKENDS[preferred]) is not None else default


def set_variable(name: str, value: str) -> None:
    """Set an environment variable, and record that the value is not the user's."""
    if os.environ.get(name) != value:
        os.environ[name] = value
        _SET_BY_US[name] = value


def is_set_by_us(name: str) -> bool:
    """Return whether the value of an environment variable was set by this package, not by the user."""
    return name in _SET_BY_US and os.environ.get(name) == _SET_BY_US[name]


_SET_BY_US: dict[str, str] = {}

_LOADS_TRITON = "torch._dynamo"
"""Module of PyTorch that loads triton, if it is installed; Keras imports it."""


class _TorchFirstFinder(MetaPathFinder):
    """Import hook that imports PyTorch before TensorFlow; it finds no module itself.

    Both TensorFlow and triton contain LLVM. If triton is loaded second, the process crashes without a message (measured
    with TensorFlow 2.21, PyTorch 2.14, triton 3.8); if it is loaded first, both work.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "tensorflow":
            sys.meta_path.remove(self)  # PyTorch may look for TensorFlow too
            if importlib.util.find_spec("torch") is not None:
                importlib.import_module(_LOADS_TRITON)


def _import_torch_before_tensorflow() -> None:
    """Have PyTorch imported as soon as TensorFlow is; importing it here would cost `--help` two seconds."""
    is_installed = any(isinstance(finder, _TorchFirstFinder) for finder in sys.meta_path)
    if not is_installed and not {_LOADS_TRITON, "tensorflow"} & sys.modules.keys():
        sys.meta_path.insert(0, _TorchFirstFinder())


def initialize_backend() -> None:
    """Import Keras and its backend and create a first tensor, which prints their startup messages.

    Imports TensorFlow with other backends too, because Keras requires it for exports.
    """
    importlib.import_module("tensorflow").constant(0)
    # Otherwise Keras replaces exceptions of layers, without the frames that show which layer failed.
    keras.config.disable_traceback_filtering()
    keras.ops.convert_to_numpy(keras.ops.zeros(()))


if os.environ.get("KERAS_BACKEND") == "torch":
    _import_torch_before_tensorflow()  # in data workers too, which import the user's code but select no backend

__all__ = ["BACKENDS", "initialize_backend", "is_set_by_us", "keras", "ops", "set_backend", "set_variable"]
