"""Voters: combine the outputs of an ensemble of networks into one prediction."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Arrays
from tfaip_like.params import Params

Array = npt.NDArray[Any]


class Voter(Params, abc.ABC):
    """Base class of rules that combine the outputs of several networks.

    Example:
        >>> class Median(Voter):
        ...     def vote(self, outputs):
        ...         return {name: np.median([output[name] for output in outputs], axis=0) for name in outputs[0]}
        >>> Median().vote([{"y": np.array([1.0])}, {"y": np.array([5.0])}, {"y": np.array([2.0])}])
        {'y': array([2.])}
    """

    @abc.abstractmethod
    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        """Return the combined outputs of a batch.

        Args:
            outputs: Named outputs of each network for the same batch, each array of shape (batch, ...).
        """


class Mean(Voter):
    """Mean of floating-point outputs; majority vote of integers and strings (smallest value on a tie).

    Example:
        >>> Mean().vote([{"y": np.array([1.0])}, {"y": np.array([2.0])}])
        {'y': array([1.5])}
    """

    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        return {name: _mean(stack) if _is_float(stack) else _majority(stack) for name, stack in _stack_outputs(outputs)}


class Majority(Voter):
    """Majority vote; for class probabilities, the fraction of networks that predict each class.

    Example:
        >>> Majority().vote([{"label": np.array([3])}, {"label": np.array([3])}, {"label": np.array([7])}])
        {'label': array([3])}
    """

    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        return {
            name: _vote_shares(stack) if _is_float(stack) else _majority(stack)
            for name, stack in _stack_outputs(outputs)
        }


def _stack_outputs(outputs: Sequence[Arrays]) -> list[tuple[str, Array]]:
    """Return each output by name, stacked over the networks along a new first axis."""
    first = outputs[0]
    for other in outputs[1:]:
        if other.keys() != first.keys():
            both = " and ".join(", ".join(sorted(names)) for names in (first, other))
            raise UsageError(f"cannot vote: the networks have different outputs: {both}")
        for name in first:
            if other[name].shape != first[name].shape:
                raise UsageError(
                    f"cannot vote: output {name!r} has shape {first[name].shape} in one network and "
                    f"{other[name].shape} in another; combine them with your own Voter (--voter module:Class)"
                )
    return [(name, np.stack([output[name] for output in outputs])) for name in first]


def _is_float(stack: Array) -> bool:
    return bool(np.issubdtype(stack.dtype, np.floating))


def _mean(stack: Array) -> Array:
    return np.asarray(stack.mean(axis=0, dtype="float64").astype(stack.dtype))


def _vote_shares(stack: Array) -> Array:
    if stack.ndim < 3 or stack.shape[-1] == 1:  # one probability instead of one per class
        return _mean(np.round(stack))
    return _mean(np.asarray(stack == stack.max(axis=-1, keepdims=True), stack.dtype))


def _majority(stack: Array) -> Array:
    """Return the most frequent value along the first axis, the smallest of several."""
    ordered = np.sort(stack, axis=0)
    counts = np.stack([(ordered == value).sum(axis=0) for value in ordered])
    return np.asarray(np.take_along_axis(ordered, counts.argmax(axis=0)[None], axis=0)[0])
