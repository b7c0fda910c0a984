"""Recording of inner activations of a network, which its outputs and exports do not contain."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def record_activation(name: str, tensor: T) -> T:
    """Record an inner activation, to show it in TensorBoard and in the report; return it unchanged.

    Call it in `build` of a model or graph, or in `call` of a layer. After each validation,
    `Model.activation_summaries` receives the values for the first batch. Training steps and exports contain nothing of
    it.

    Args:
        name: name of the activation; `name_2` is the second one of a layer that is called twice.
        tensor: tensor of any shape.

    Example:
        >>> class Attention(Model):  # doctest: +SKIP
        ...     def build(self, inputs):
        ...         attend = layers.MultiHeadAttention(2, 16)
        ...         values, scores = attend(inputs["x"], inputs["x"], return_attention_scores=True)
        ...         record_activation("scores", scores)
        ...         return {"y": layers.Dense(1)(values[:, 0])}
    """
    for recorder in _recorders:
        recorder(name, tensor)
    return tensor


Recorder = Callable[[str, object], None]
"""Function of the name and the tensor of each recorded activation."""

_recorders: list[Recorder] = []


@contextmanager
def record_with(recorder: Recorder) -> Iterator[None]:
    """Call a function with each activation that is recorded within the block."""
    _recorders.append(recorder)
    try:
        yield
    finally:
        _recorders.remove(recorder)


def unique_name(name: str, names: Container[str]) -> str:
    """Return a name, with a number if it is already in use.

    Args:
        name: name of an activation.
        names: names in use.

    Example:
        >>> unique_name("scores", ["scores", "scores_2"])
        'scores_3'
    """
    number, unique = 1, name
    while unique in names:
        number += 1
        unique = f"{name}_{number}"
    return unique
