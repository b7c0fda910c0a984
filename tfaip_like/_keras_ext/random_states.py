"""Random states outside layers: those of Python, NumPy, Keras' global generator and PyTorch."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._keras_ext.snapshots import read_array

Arrays = dict[str, npt.NDArray[Any]]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, the backend, and Keras' global seed generator."""
    keras.utils.set_random_seed(seed)
    # Created here, because Keras draws its seed from Python's generator on first use. That draw is undone: layers get
    # the same seeds as in plain Keras.
    before = random.getstate()
    global_seed_generator()
    random.setstate(before)


def global_seed_generator() -> keras.random.SeedGenerator:
    """Return the generator that `keras.random` uses without a seed; Keras has no public access to it."""
    from keras.src.random import seed_generator

    return seed_generator.global_seed_generator()


def capture_host_rng() -> Arrays:
    """Return the states of the generators outside Keras, by name."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": np.array(words, np.uint32),
        "python_rest": np.array([version, np.nan if gauss is None else gauss], np.float64),
        "numpy": np.array(keys),
        "numpy_rest": np.array([position, has_gauss, cached], np.float64),
        **{name: np.array(module.get_rng_state()) for name, module in _torch_generators().items()},
    }


def restore_host_rng(states: Mapping[str, Any]) -> None:
    """Restore what `capture_host_rng` returned; those of PyTorch only if they were captured on such a device."""
    version, gauss = states["python_rest"].tolist()
    random.setstate((int(version), tuple(states["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss, cached = states["numpy_rest"].tolist()
    np.random.set_state(("MT19937", states["numpy"], int(position), int(has_gauss), cached))
    for name, module in _torch_generators().items():
        if name in states:
            torch: Any = importlib.import_module("torch")
            module.set_rng_state(torch.from_numpy(np.array(states[name])))


def _torch_generators() -> dict[str, Any]:
    """Return the modules of PyTorch's global generators: that of the CPU, and that of the GPU in use.

    Keras draws from them for dropout without a seed (`keras.src.backend.torch.random.dropout`, Keras 3.15), and
    PyTorch's own layers do.
    """
    if keras.backend.backend() != "torch":
        return {}
    torch: Any = importlib.import_module("torch")
    device = global_seed_generator().state.value.device.type
    return {"torch": torch} | ({} if device == "cpu" else {"torch_gpu": torch.get_device_module(device)})


@contextmanager
def preserve_network_state(network: keras.Model) -> Iterator[None]:
    """Undo, at the end of the block, all changes of inference to the state of a network and to random states.

    Recurrent layers with dropout, samplers and counters change their variables in inference too, and draws without a
    seed advance the global generators. Training must not depend on how often it is validated, nor on where a
    validation was interrupted.
    """
    trained = {id(variable) for variable in network.trainable_variables}
    variables = [v for v in network.variables if id(v) not in trained] + [global_seed_generator().state]
    values = [np.array(read_array(variable)) for variable in variables]
    states = capture_host_rng()
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        restore_host_rng(states)
