"""Networks that return what `record_activation` has recorded while they were built or are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from tfaip_like._keras_ext.layer_names import make_names_unique
from tfaip_like._user_code.code_errors import CodeError, qualified_method_name
from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._activations import record_with, unique_name


@dataclass
class BuildRecorder:
    """Recorder of the activations of a network while it is built.

    A layer records backend tensors when it is called, also for the shapes of its outputs; those are only noticed.
    """

    tensors: dict[str, keras.KerasTensor] = field(default_factory=dict)
    """Symbolic tensors that the network computes, by name."""
    was_called: bool = False
    """Whether anything was recorded, also by a layer."""

    def __call__(self, name: str, tensor: object) -> None:
        """Record a tensor."""
        self.was_called = True
        if isinstance(tensor, keras.KerasTensor):
            self.tensors[unique_name(name, self.tensors)] = tensor


@dataclass(frozen=True)
class ActivationNetwork:
    """Network with its outputs and recorded activations; shares all layers with the original.

    Args:
        network: functional network.
        recorded: symbolic tensors to return, by name.
    """

    network: keras.Model
    recorded: Mapping[str, keras.KerasTensor]

    def read(self, inputs: Mapping[str, Any]) -> Arrays:
        """Return the activations for a batch, computed eagerly in inference mode.

        Args:
            inputs: arrays by name; others than the network's own inputs are ignored.
        """
        tensors: dict[str, Any] = {}

        def record(name: str, tensor: object) -> None:
            tensors[unique_name(name, tensors)] = tensor

        used = {tensor.name: keras.ops.convert_to_tensor(inputs[tensor.name]) for tensor in self.network.inputs}
        with record_with(record):
            outputs = self.network(used, training=False)
        tensors |= {name: outputs[f"{_PREFIX}{name}"] for name in self.recorded}
        return {name: keras.ops.convert_to_numpy(_to_float32(tensor)) for name, tensor in tensors.items()}


def _to_float32(tensor: Any) -> Any:
    """Return a tensor without half precision, which NumPy, images and histograms do not support."""
    return keras.ops.cast(tensor, "float32") if keras.backend.is_float_dtype(tensor.dtype) else tensor


_PREFIX = "activation:"
"""Prefix of the outputs that are activations."""


def make_activation_network(
    network: keras.Model, recorder: BuildRecorder, build: Callable[..., Any]
) -> ActivationNetwork | None:
    """Return the network that returns recorded activations; None if nothing was recorded.

    Args:
        network: network that was built.
        recorder: what was recorded meanwhile.
        build: method of the model that built it, for errors.

    Raises:
        CodeError: if an activation is computed by weights that the network does not have, or from other inputs.
    """
    if not recorder.was_called:
        return None
    outputs = {**network.output, **{f"{_PREFIX}{name}": tensor for name, tensor in recorder.tensors.items()}}
    make_names_unique(outputs.values(), qualified_method_name(build))
    try:
        extended = keras.Model(network.input, outputs, name="activations")
    except ValueError as problem:
        raise CodeError(
            f"{qualified_method_name(build)}: record_activation: a tensor depends on an input that no output uses",
            build,
        ) from problem
    known = {id(weight) for weight in network.weights}
    if unknown := [weight.path for weight in extended.weights if id(weight) not in known]:
        raise CodeError(
            f"{qualified_method_name(build)}: record_activation: no output depends on the weights {unknown[0]}, so "
            "they are never trained",
            build,
        )
    return ActivationNetwork(extended, recorder.tensors)
