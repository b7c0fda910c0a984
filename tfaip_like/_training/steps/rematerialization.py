"""Rematerialization (gradient checkpointing): activations are recomputed in the backward pass instead of kept.

`keras.remat` around the call of a layer changes its results. Measured with Keras 3.15, a layer with Dropout and
BatchNormalization: on TensorFlow the recomputation draws another dropout mask and updates the statistics again; on JAX
the weights get no gradient; PyTorch raises an error, because `training` is unknown in the recomputation. Here the call
is a pure function of inputs, weights and states, whose results do not change by recomputing it.
"""

from __future__ import annotations

import difflib
import functools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state

from tfaip_like._keras_ext.paths import layer_paths
from tfaip_like._keras_ext.random_states import global_seed_generator
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.modeling._context import current_position, use_position

logger = logging.getLogger(__name__)

_CALL_CONTEXT = "current_call_ctx"
"""Keras' global attribute with the `training` argument of the layers that enclose the current one."""


def rematerialize(network: keras.Model, pattern: str) -> None:
    """Make layers recompute their activations in the backward pass; only their inputs and weights are kept.

    Args:
        network: network to change.
        pattern: regular expression for the full path of each layer; layers in a matching one are part of it.

    Raises:
        UsageError: if no layer matches, or the backend cannot rematerialize one.
    """
    layers = layer_paths(network)
    matched = {path: layer for path, layer in layers.items() if re.fullmatch(pattern, path)}
    if not matched:
        closest = difflib.get_close_matches(pattern, layers, n=5, cutoff=0.0)
        raise UsageError(f"--trainer.remat {pattern}: no layer matches; closest: {truncate_list(closest)}")
    for path, layer in matched.items():
        if backend.backend() == "torch" and _has_recurrent_dropout(layer):
            raise UsageError(
                f"--trainer.remat {pattern}: {path} has recurrent dropout, which cannot be rematerialized on PyTorch; "
                "choose another layer, or --device.backend tensorflow or jax"
            )
    # In the order of the paths: that of the layers of a network differs between processes.
    outermost = [path for path in sorted(matched) if not any(path.startswith(f"{other}/") for other in matched)]
    # A shared layer has several paths.
    for layer in {id(matched[path]): matched[path] for path in outermost}.values():
        layer.call = _RematerializedCall(layer, layer.call)
    logger.info("rematerialized: %s", truncate_list(outermost))


def is_rematerialized(network: keras.Model) -> bool:
    """Return whether a layer of a network recomputes its activations."""
    return any(isinstance(layer.call, _RematerializedCall) for layer in layer_paths(network).values())


def _has_recurrent_dropout(layer: keras.Layer) -> bool:
    """Return whether a layer contains a recurrent cell with dropout.

    Measured with Keras 3.15 and PyTorch 2.14: the cells, which store their mask between time steps, draw others.
    """
    cells = [inner for inner in layer._flatten_layers() if hasattr(inner, "get_dropout_mask")]
    return any(cell.dropout or cell.recurrent_dropout for cell in cells)


class _RematerializedCall:
    """Call of a layer that is recomputed in the backward pass of a training step.

    Args:
        layer: layer.
        call: its method `call`.
    """

    def __init__(self, layer: keras.Layer, call: Callable[..., Any]):
        functools.update_wrapper(self, call)
        self._layer = layer
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call_context = global_state.get_global_attribute(_CALL_CONTEXT)
        is_training = call_context is not None and call_context.get_value("training")
        if not is_training or backend.KerasTensor in map(type, keras.tree.flatten((args, kwargs))):
            return self._call(*args, **kwargs)
        trained = {id(variable) for variable in self._layer.trainable_variables}
        weights = [variable for variable in self._layer.variables if id(variable) in trained]
        states = [variable for variable in self._layer.variables if id(variable) not in trained]
        if backend.backend() != "jax":  # where compiled code cannot use it
            states.append(global_seed_generator().state)
        return self._recomputed(weights, states, (args, kwargs))

    def _recomputed(self, weights: Sequence[Any], states: Sequence[Any], arguments: Any) -> Any:
        """Call the layer, update its states and add its losses."""
        flat = keras.tree.flatten(arguments)
        is_input = [backend.is_tensor(value) and backend.is_float_dtype(value.dtype) for value in flat]
        with backend.AutocastScope(None):  # not in the precision of the layer
            # Copied: TensorFlow would read a variable again in the recomputation, PyTorch changes it in place.
            before = [keras.ops.copy(variable.value) for variable in states]
            current = [keras.ops.convert_to_tensor(variable.value) for variable in weights]
        changed: list[int] = []
        num_losses = 0
        structure: Any = None
        restore = _capture_scopes()

        def compute(weight_values: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
            nonlocal num_losses, structure
            remaining = iter(inputs)
            values = [
                _with_mask(next(remaining), value) if tensor else value
                for value, tensor in zip(flat, is_input, strict=True)
            ]
            args, kwargs = keras.tree.pack_sequence_as(arguments, values)
            pairs = [*zip(weights, weight_values, strict=True), *zip(states, before, strict=True)]
            with restore(), keras.StatelessScope(pairs, collect_losses=True) as scope:
                structure = self._call(*args, **kwargs)
            after = [scope.get_current_value(variable) for variable in states]
            changed[:] = [number for number, value in enumerate(after) if value is not before[number]]
            num_losses = len(scope.losses)
            return [*keras.tree.flatten(structure), *scope.losses, *(after[number] for number in changed)]

        inputs = [value for value, tensor in zip(flat, is_input, strict=True) if tensor]
        results = list(keras.remat(compute)(current, inputs))
        num_outputs = len(keras.tree.flatten(structure))
        for number, value in zip(changed, results[num_outputs + num_losses :], strict=True):
            states[number].assign(value)
        self._layer.add_loss(results[num_outputs : num_outputs + num_losses])
        return keras.tree.pack_sequence_as(structure, results[:num_outputs])


def _with_mask(value: Any, original: Any) -> Any:
    """Return a tensor with Keras' mask of another one."""
    if (mask := backend.get_keras_mask(original)) is not None:
        backend.set_keras_mask(value, mask)
    return value


def _capture_scopes() -> Callable[[], Any]:
    """Return a context manager with the scopes of this place, in which the backward pass repeats the call."""
    call_context = global_state.get_global_attribute(_CALL_CONTEXT)
    autocast, position = backend.get_autocast_scope(), current_position()

    @contextmanager
    def restore() -> Iterator[None]:
        before = global_state.get_global_attribute(_CALL_CONTEXT)
        with ExitStack() as stack:
            stack.enter_context(use_position(lambda: position))
            if autocast is not None:
                stack.enter_context(backend.AutocastScope(autocast.dtype))
            global_state.set_global_attribute(_CALL_CONTEXT, call_context)
            try:
                yield
            finally:
                global_state.set_global_attribute(_CALL_CONTEXT, before)

    return restore
