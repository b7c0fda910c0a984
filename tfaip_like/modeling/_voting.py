"""What several networks predict together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._voter import Voter

Array = npt.NDArray[Any]


class Mean(Voter):
    """The mean of numbers; what most networks say where outputs are integers or texts, the smallest of a draw."""

    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        return {name: _mean(stack) if _is_float(stack) else _majority(stack) for name, stack in _stack_outputs(outputs)}


class Majority(Voter):
    """What most networks say; of probabilities, the share of networks that hold each class for the likeliest."""

    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        return {
            name: _vote_shares(stack) if _is_float(stack) else _majority(stack)
            for name, stack in _stack_outputs(outputs)
        }


def _stack_outputs(outputs: Sequence[Arrays]) -> list[tuple[str, Array]]:
    """Each output of all networks, those along the first axis."""
    first = outputs[0]
    for other in outputs[1:]:
        if other.keys() != first.keys():
            both = " and ".join(", ".join(sorted(names)) for names in (first, other))
            raise UsageError(f"networks with different outputs cannot vote: {both}")
        for name in first:
            if other[name].shape != first[name].shape:
                raise UsageError(
                    f"output {name!r} has shape {first[name].shape} in one network and {other[name].shape} in another, "
                    "so they cannot vote on it; write a Voter of your own (--voter module:Class)"
                )
    return [(name, np.stack([output[name] for output in outputs])) for name in first]


def _is_float(stack: Array) -> bool:
    return bool(np.issubdtype(stack.dtype, np.floating))


def _mean(stack: Array) -> Array:
    return np.asarray(stack.mean(axis=0, dtype="float64").astype(stack.dtype))


def _vote_shares(stack: Array) -> Array:
    if stack.ndim < 3 or stack.shape[-1] == 1:  # a probability, not one for each class
        return _mean(np.round(stack))
    return _mean(np.asarray(stack == stack.max(axis=-1, keepdims=True), stack.dtype))


def _majority(stack: Array) -> Array:
    """The value that comes most often along the first axis; the smallest of those."""
    ordered = np.sort(stack, axis=0)
    counts = np.stack([(ordered == value).sum(axis=0) for value in ordered])
    return np.asarray(np.take_along_axis(ordered, counts.argmax(axis=0)[None], axis=0)[0])
