"""The state of a training: the values of all its variables, and of all that draws random numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._keras_ext.extended_optimizer import PAST_AVERAGE, RATE_FACTOR
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._training.checkpointing.checkpoints import NETWORK
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._utils.errors import UsageError

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]

METRICS, OPTIMIZER, RANDOM = "metrics", "optimizer", "random"
"""Groups of variables beside the network's own: sums of the running epoch; optimizer; what draws without a layer."""
_SEED_VARIABLE_NAME = "seed_generator_state"
"""How Keras names what a layer draws from."""
_OPTIONAL_OPTIMIZER_VARIABLES = re.compile(rf"_{PAST_AVERAGE}$|{RATE_FACTOR}$|^loss_scale_optimizer/")
"""Variables of an optimizer that may come and go with other parameters than its own."""


def seed_everything(seed: int) -> None:
    """Sets the seed of everything that draws random numbers without one of its own."""
    keras.utils.set_random_seed(seed)
    # Made now, because its own first seed is drawn when it is first asked for; the draw is taken back, so that
    # layers get the seeds that they get in plain Keras.
    before = random.getstate()
    global_seed_generator()
    random.setstate(before)


def capture(model: TrainingModel) -> Arrays:
    """Copies of all values, by GROUP:NUMBER:PATH."""
    synchronise(model)
    arrays = {}
    named = [pair for group, variables in _variable_groups(model).items() for pair in _iter_variables(group, variables)]
    for name, variable in [*_iter_network_variables(model.network), *named]:
        # Copied, because TensorFlow and PyTorch show the memory that the next step writes to.
        arrays[name] = np.array(keras.ops.convert_to_numpy(variable.value))
    return arrays | _capture_host_rng()


def synchronise(model: TrainingModel) -> None:
    """Puts the values into the variables: on JAX they are elsewhere while `fit` runs."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def completed_steps(model: TrainingModel) -> int:
    """The steps of the running epoch that are done, as the steps themselves have counted."""
    synchronise(model)
    return int(keras.ops.convert_to_numpy(model.non_finite.steps.value))


@contextmanager
def preserve_state(model: TrainingModel) -> Iterator[None]:
    """Undo, at the end of the block, all that inference changes in the state of a training.

    Recurrent layers with dropout, samplers and counters change their variables in inference too, and draws without a
    seed advance the global generator. A training must not depend on how often it is validated, nor on where a
    validation was interrupted.
    """
    synchronise(model)
    with preserve_network_state(model.network):
        try:
            yield
        finally:
            synchronise(model)


@contextmanager
def preserve_network_state(network: keras.Model) -> Iterator[None]:
    """Undo what inference with a network changes, before a training model is trained; see `preserve_state`."""
    trained = {id(variable) for variable in network.trainable_variables}
    variables = [v for v in network.variables if id(v) not in trained] + [global_seed_generator().state]
    values = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def restore_network(network: keras.Model, arrays: Mapping[str, Any]) -> list[str]:
    """Put saved weights and random states into the network.

    Returns:
        Random states that the checkpoint lacks: layers without weights, such as dropout, may come and go.

    Raises:
        UsageError: when the weights do not fit; it names the first that does not.
    """
    named = _index_by_path(_iter_network_variables(network))
    saved = _index_by_path((name, array) for name, array in arrays.items() if name.startswith(f"{NETWORK}:"))
    for path in (*saved, *named):
        have = "absent" if path not in saved else tuple(saved[path].shape)
        want = "absent" if path not in named else tuple(named[path].shape)
        if have != want and not path.split("#")[0].endswith(_SEED_VARIABLE_NAME):
            raise UsageError(
                f"the network is not the one that was trained: {path} is {have} in the checkpoint and "
                f"{want} now.\nA run goes on with its own architecture; begin a new one with --warmstart.model instead."
            )
    return _assign(named, saved)


def restore_metrics(model: TrainingModel, arrays: Mapping[str, Any]) -> list[str]:
    """Put the sums of the running epoch back; return the names of those that the checkpoint lacks."""
    named = dict(_iter_variables(METRICS, _variable_groups(model)[METRICS]))
    fitting = {name: arrays[name] for name in named if name in arrays and arrays[name].shape == named[name].shape}
    return _assign(named, fitting)


def restore_optimizer(optimizer: keras.optimizers.Optimizer, arrays: Mapping[str, Any]) -> list[str] | None:
    """Put the state of the optimizer back.

    Returns:
        Variables that the checkpoint lacks, such as moving averages that were not asked for before; None, with nothing
        changed, if it holds the state of another optimizer.
    """
    saved = _index_by_path((name, array) for name, array in arrays.items() if name.startswith(f"{OPTIMIZER}:"))
    named = _index_by_path(_iter_variables(OPTIMIZER, optimizer.variables))
    own = [{path for path in paths if not _OPTIONAL_OPTIMIZER_VARIABLES.search(path)} for paths in (saved, named)]
    if own[0] != own[1] or any(saved[path].shape != tuple(named[path].shape) for path in own[1]):
        return None
    return _assign(named, saved)


def _assign(variables: Mapping[str, keras.Variable], values: Mapping[str, Any]) -> list[str]:
    """Assign values by name; return the names of the variables that have none."""
    for name, variable in variables.items():
        if name in values:
            variable.assign(values[name])
    return [name for name in variables if name not in values]


def restore_random(model: TrainingModel, arrays: Mapping[str, Any]) -> None:
    """Put the random states back that belong to no layer."""
    _assign(dict(_iter_variables(RANDOM, _variable_groups(model)[RANDOM])), arrays)
    version, gauss = arrays[f"{RANDOM}:python_rest"].tolist()
    random.setstate((int(version), tuple(arrays[f"{RANDOM}:python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss, cached = arrays[f"{RANDOM}:numpy_rest"].tolist()
    np.random.set_state(("MT19937", arrays[f"{RANDOM}:numpy"], int(position), int(has_gauss), cached))


def nbytes(model: TrainingModel) -> int:
    """Size of all values."""
    itemsize = 4
    variables = [*model.network.variables, *(v for group in _variable_groups(model).values() for v in group)]
    return sum(itemsize * int(np.prod(variable.shape)) for variable in variables)


def _variable_groups(model: TrainingModel) -> dict[str, list[keras.Variable]]:
    return {
        METRICS: list(model.metrics_variables),
        OPTIMIZER: list(model.optimizer.variables),
        RANDOM: [global_seed_generator().state],
    }


def global_seed_generator() -> keras.random.SeedGenerator:
    """What draws for `keras.random` where no seed is given. Keras hands it out nowhere in public."""
    from keras.src.random import seed_generator

    return seed_generator.global_seed_generator()


def _iter_network_variables(network: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Yield its weights by the paths that a warm start and a person know, and its random states."""
    paths = {id(weight): path for path, weight in weight_paths(network).items()}
    for number, variable in enumerate(network.variables):
        yield f"{NETWORK}:{number:05d}:{paths.get(id(variable), variable.path)}", variable


def _iter_variables(group: str, variables: Iterable[keras.Variable]) -> Iterator[tuple[str, keras.Variable]]:
    # Numbered, because two variables can have the same path.
    return ((f"{group}:{number:05d}:{variable.path}", variable) for number, variable in enumerate(variables))


def _index_by_path(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """By path alone, since other parameters may have shifted the numbers; `#2` is the second of a path."""
    found: dict[str, T] = {}
    for name, value in named:
        path = name.split(":", 2)[2]
        times = sum(known.split("#")[0] == path for known in found)
        found[f"{path}#{times + 1}" if times else path] = value
    return found


def _capture_host_rng() -> Arrays:
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        f"{RANDOM}:python": np.array(words, np.uint32),
        f"{RANDOM}:python_rest": np.array([version, np.nan if gauss is None else gauss], np.float64),
        f"{RANDOM}:numpy": np.array(keys),
        f"{RANDOM}:numpy_rest": np.array([position, has_gauss, cached], np.float64),
    }
