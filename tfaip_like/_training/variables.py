"""Variables and random states of a training: capturing and restoring them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._keras_ext.extended_optimizer import PAST_AVERAGE, RATE_FACTOR
from tfaip_like._keras_ext.paths import SEED_STATE, number_duplicates
from tfaip_like._keras_ext.random_states import capture_host_rng, global_seed_generator, restore_host_rng
from tfaip_like._keras_ext.snapshots import Buffers, read_array
from tfaip_like._training.checkpointing.checkpoints import NETWORK
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._utils.errors import UsageError

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]

METRICS, OPTIMIZER, RANDOM = "metrics", "optimizer", "random"
"""Groups of variables besides the network's: metrics of the current epoch, optimizer, random states outside layers."""
_OPTIONAL_OPTIMIZER_VARIABLES = re.compile(rf"_{PAST_AVERAGE}$|{RATE_FACTOR}$|^loss_scale_optimizer/")
"""Optimizer variables whose existence depends on other parameters than the optimizer's own."""


def capture(model: TrainingModel, buffers: Buffers | None = None) -> Arrays:
    """Return copies of all variables and random states, by GROUP:PATH.

    Args:
        model: training model.
        buffers: memory of the copies; None for new memory.
    """
    buffers = buffers or Buffers()
    arrays = {}
    groups = [
        *(_iter_variables(group, variables) for group, variables in _variable_groups(model).items()),
        _iter_metric_variables(model),
    ]
    for name, variable in itertools.chain(*groups):
        arrays[name] = buffers.copy(read_array(variable))
    return arrays | {f"{RANDOM}:{name}": buffers.copy(state) for name, state in capture_host_rng().items()}


def restore_network(network: keras.Model, arrays: Mapping[str, Any]) -> list[str]:
    """Restore weights and random states of the network.

    Returns:
        Names of the random states that the checkpoint lacks; layers without weights, such as dropout, may be added.

    Raises:
        UsageError: if weights are missing or have different shapes; names the first one.
    """
    named = _index_by_path(_iter_variables(NETWORK, network.variables))
    saved = _index_by_path((name, array) for name, array in arrays.items() if name.startswith(f"{NETWORK}:"))
    for path in (*saved, *named):
        have = "absent" if path not in saved else tuple(saved[path].shape)
        want = "absent" if path not in named else tuple(named[path].shape)
        if have != want and not path.split("#")[0].endswith(SEED_STATE):
            problem = (
                f"{path} is missing in the {'checkpoint' if have == 'absent' else 'model'}"
                if "absent" in (have, want)
                else f"{path} has shape {have} in the checkpoint but {want} in the model"
            )
            raise UsageError(
                f"checkpoint mismatch: {problem}.\n"
                "The architecture cannot change on resume; start a new run with --warmstart.model instead."
            )
    return _assign(named, saved)


def restore_metrics(model: TrainingModel, arrays: Mapping[str, Any]) -> list[str]:
    """Restore the metrics of the current epoch; return the names of those that the checkpoint lacks."""
    named = dict(_iter_metric_variables(model))
    matching = {name: arrays[name] for name in named if name in arrays and arrays[name].shape == named[name].shape}
    return _assign(named, matching)


def restore_optimizer(optimizer: keras.optimizers.Optimizer, arrays: Mapping[str, Any]) -> list[str] | None:
    """Restore the state of the optimizer.

    Returns:
        Names of the variables that the checkpoint lacks, such as newly enabled moving averages; None, with nothing
        changed, if the checkpoint is from a different optimizer.
    """
    saved = _index_by_path((name, array) for name, array in arrays.items() if name.startswith(f"{OPTIMIZER}:"))
    named = _index_by_path(_iter_variables(OPTIMIZER, optimizer.variables))
    saved_paths, paths = (
        {path for path in variables if not _OPTIONAL_OPTIMIZER_VARIABLES.search(path)} for variables in (saved, named)
    )
    if saved_paths != paths or any(saved[path].shape != tuple(named[path].shape) for path in paths):
        return None
    return _assign(named, saved)


def _assign(variables: Mapping[str, keras.Variable], values: Mapping[str, Any]) -> list[str]:
    """Assign values by name; return the names of the variables without a value."""
    for name, variable in variables.items():
        if name in values:
            variable.assign(values[name])
    return [name for name in variables if name not in values]


def restore_random(model: TrainingModel, arrays: Mapping[str, Any]) -> None:
    """Restore the random states that belong to no layer."""
    _assign(dict(_iter_variables(RANDOM, _variable_groups(model)[RANDOM])), arrays)
    restore_host_rng(_index_by_path((name, array) for name, array in arrays.items() if name.startswith(f"{RANDOM}:")))


def nbytes(model: TrainingModel) -> int:
    """Return the approximate size of the state in bytes, assuming 4 bytes per element."""
    itemsize = 4
    groups = [*_variable_groups(model).values(), model.metrics_variables]
    variables = itertools.chain(*groups)
    return sum(itemsize * int(np.prod(variable.shape)) for variable in variables)


def _variable_groups(model: TrainingModel) -> dict[str, list[keras.Variable]]:
    return {
        NETWORK: list(model.network.variables),
        OPTIMIZER: list(model.optimizer.variables),
        RANDOM: [global_seed_generator().state, *([model.step_seed.state] if model.trained else [])],
    }


def _iter_metric_variables(model: TrainingModel) -> Iterator[tuple[str, keras.Variable]]:
    return number_duplicates((f"{METRICS}:{path}", variable) for path, variable in model.metric_variables_by_path())


def _iter_variables(group: str, variables: Iterable[keras.Variable]) -> Iterator[tuple[str, keras.Variable]]:
    return number_duplicates((f"{group}:{variable.path}", variable) for variable in variables)


def _index_by_path(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    return {name.partition(":")[2]: value for name, value in named}
