"""Floating-point operations and memory of a training step, from the program that its backend compiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like._training.steps.training_model import TrainingModel

FORWARD_PASSES_PER_STEP = 3
"""Operations of a training step in forward passes: one forward, and a backward pass of two products per product."""

BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class ProgramCost:
    """Cost of one training step."""

    flops: float | None = None
    """Floating-point operations on all devices; None if unknown."""
    temporary_bytes: int | None = None
    """Memory of activations and gradients on a device; None if the backend does not report it."""


def make_stack(example: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return a stack of copies of a batch, which takes no memory."""
    stack: dict[str, Any] = keras.tree.map_structure(
        lambda array: np.broadcast_to(array, (size, *np.shape(array))), dict(example)
    )
    return stack


def estimate_temporary_bytes(model: TrainingModel, batch_size: int) -> int:
    """Return a rough estimate of the memory of activations and gradients: outputs of layers and sizes of weights.

    Args:
        model: training model.
        batch_size: samples per batch.
    """
    outputs: list[Any] = []
    for layer in model.network.layers:
        with suppress(AttributeError, ValueError):  # a layer that is shared, or called outside of the graph
            outputs += keras.tree.flatten(layer.output)
    elements: int = sum(math.prod(size or 1 for size in output.shape[1:]) for output in outputs)
    weights: int = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    return BYTES_PER_ELEMENT * (batch_size * elements + weights)


# JAX.


def analyze_jax_program(run: Any, arguments: tuple[Any, ...], accumulate: int) -> ProgramCost:
    """Return the cost of a step of a jitted loop over steps; the first call with such arguments reuses the program.

    Args:
        run: jitted function.
        arguments: arguments with the shapes of those in training.
        accumulate: batches per step.
    """
    traced = run.trace(*arguments)
    lowered = traced.lower()
    memory = lowered.compile().memory_analysis()
    flops = _lowered_flops(lowered) + _flops_of_repetitions(traced.jaxpr.jaxpr)
    if accumulate > 1:  # the program has the first batch of a step, and a loop over the others that counts once
        flops *= accumulate / 2
    return ProgramCost(flops, None if memory is None else int(memory.temp_size_in_bytes))


def _lowered_flops(lowered: Any) -> float:
    """Return the operations of a program before optimization, in which each loop counts once."""
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _flops_of_repetitions(jaxpr: Any) -> float:
    """Return the operations of all iterations but the first of the scans (recurrent layers) of a program."""
    import jax
    from jax.extend.core import jaxpr_as_fun

    shape_of: Any = jax.ShapeDtypeStruct
    total = 0.0
    for scan in _iter_scans(jaxpr):
        body = scan.params["jaxpr"]
        lowered = jax.jit(jaxpr_as_fun(body)).lower(*(shape_of(x.shape, x.dtype) for x in body.in_avals))
        once, repeated = _lowered_flops(lowered), _flops_of_repetitions(body.jaxpr)
        total += (scan.params["length"] - 1) * once + scan.params["length"] * repeated
    return total


def _iter_scans(jaxpr: Any) -> Iterator[Any]:
    """Yield the scans of a program that are not in another scan."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
            continue
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _iter_scans(inner)


# TensorFlow.


def analyze_tensorflow_program(run: Any, stack: Mapping[str, Any], accumulate: int) -> ProgramCost:
    """Return the cost of a step of a `tf.function` over a stack of batches; training reuses the trace.

    TensorFlow does not report the memory of a program.

    Args:
        run: function of a stack and the number of steps.
        stack: stack with the shapes of those in training.
        accumulate: batches per step.
    """
    import tensorflow as tf

    spec = tf.nest.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), dict(stack))
    graph = run.get_concrete_function(spec, tf.TensorSpec((), "int32")).graph
    return ProgramCost(_GraphFlops(accumulate).count(graph))


class _GraphFlops:
    """Counter of the floating-point operations of a graph with loops.

    Args:
        accumulate: batches per step, which an inner loop iterates over.
    """

    def __init__(self, accumulate: int):
        self._accumulate = accumulate
        self._counts: dict[tuple[int, int], float | None] = {}
        """Operations by graph and depth: a function may be called in many places."""

    def count(self, graph: Any, depth: int = 0) -> float | None:
        """Return the operations of a graph; None if it has a loop of unknown length."""
        key = id(graph), depth
        if key not in self._counts:
            self._counts[key] = self._count(graph, depth)
        return self._counts[key]

    def _count(self, graph: Any, depth: int) -> float | None:
        total = _own_flops(graph)
        for operation in graph.get_operations():
            iterations = self._num_iterations(operation, depth) if "While" in operation.type else 1
            is_nested = depth + ("While" in operation.type)
            counts = [self.count(inner, is_nested) for inner in _called_graphs(graph, operation)]
            if counts and (iterations is None or None in counts):
                return None
            known = [count for count in counts if count is not None]
            # Of a condition, one branch is executed.
            total += (iterations or 0) * (max(known, default=0.0) if "If" in operation.type else sum(known))
        return total

    def _num_iterations(self, loop: Any, depth: int) -> int | None:
        """Return the iterations of a loop: 1 for that over the steps, None if unknown."""
        import tensorflow as tf

        limit = loop.inputs[1]  # the counter, the maximum number of iterations, the variables
        if limit.op.type == "Max":  # of a constant, in recurrent layers of Keras
            limit = limit.op.inputs[0]
        number = tf.get_static_value(limit)
        if number is None or number < 0:  # not the loop of a layer
            return {0: 1, 1: self._accumulate - 1 or None}.get(depth)
        return int(number)


def _called_graphs(graph: Any, operation: Any) -> list[Any]:
    """Return the graphs of the functions that an operation calls; TensorFlow has no public access to them."""
    values = operation.node_def.attr.values()
    names = [function.name for value in values for function in (value.func, *value.list.func) if function.name]
    functions = [graph._get_function(name) for name in names]
    return [function.graph for function in functions if getattr(function, "graph", None) is not None]


def _own_flops(graph: Any) -> float:
    """Return the operations of a graph without those of the functions that it calls."""
    import tensorflow as tf

    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output().build()
    return float(profiler.profile(graph, options=options).total_float_ops)


# PyTorch.


def analyze_torch_step(model: TrainingModel, example: Mapping[str, Any], accumulate: int) -> ProgramCost:
    """Return the cost of a step that PyTorch executes eagerly, from a forward pass.

    Args:
        model: training model.
        example: model inputs.
        accumulate: batches per step.
    """
    import torch  # type: ignore[import-not-found]
    from torch.utils.flop_counter import FlopCounterMode  # type: ignore[import-not-found]

    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, dict(example))
    with preserve_network_state(model.network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs)
    return ProgramCost(float(FORWARD_PASSES_PER_STEP * accumulate * counter.get_total_flops()))
