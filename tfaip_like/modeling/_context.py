"""`context`: step and epoch of the training, for losses, metrics and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from tfaip_like._utils.lazy_keras import ops


class TrainingPosition(NamedTuple):
    """Position of a training, as numbers or as scalar tensors."""

    step: Any
    epoch: Any

    @classmethod
    def of_step(cls, step: int, steps_per_epoch: int) -> TrainingPosition:
        """Return the position after a number of steps."""
        return cls(float(step), step // steps_per_epoch + step % steps_per_epoch / steps_per_epoch)


PositionSource: TypeAlias = Callable[[], TrainingPosition]
"""Function that returns the current position."""


def start_position() -> TrainingPosition:
    """Return the position of an untrained network."""
    return TrainingPosition(0.0, 0.0)


class Context:
    """Step and epoch of the training, readable in `loss`, `metrics` and in `call` of a layer.

    The values are float32 scalars that change without compiling again. Use them to anneal a loss weight, a
    temperature or a probability:

    - In a training step: the number of the step, from 1, and the epochs that are complete after it (2.5 in the middle
      of the third epoch). With gradient accumulation, a step is an optimizer update.
    - In a validation, an evaluation by load-and-validate and an export: the values of the last training step. In
      exports they are constants.
    - Elsewhere: the values of the last training of this process; 0 if there was none.

    Example:
        >>> class Annealed(Model):  # doctest: +SKIP
        ...     def loss(self, inputs, targets, outputs):
        ...         weight = ops.minimum(1.0, context.epoch / 10)
        ...         return {"reconstruction": outputs["error"], "kl": weight * outputs["kl"]}
    """

    def __init__(self) -> None:
        self._source: PositionSource = start_position

    @property
    def step(self) -> Any:
        """Return the number of the current training step, from 1."""
        return ops.convert_to_tensor(self._source().step, dtype="float32")

    @property
    def epoch(self) -> Any:
        """Return the number of epochs that are complete after the current training step; may be fractional."""
        return ops.convert_to_tensor(self._source().epoch, dtype="float32")

    def __repr__(self) -> str:
        return "context"


context = Context()


@contextmanager
def use_position(source: PositionSource) -> Iterator[None]:
    """Use a position within the block.

    Args:
        source: returns the position; called whenever it is read.
    """
    before = context._source
    context._source = source
    try:
        yield
    finally:
        context._source = before


def current_position() -> TrainingPosition:
    """Return the position that `context` has at this place."""
    return context._source()


def set_position(source: PositionSource) -> None:
    """Set the position for code outside of compiled steps, also after the training that sets it.

    Args:
        source: returns the position; called whenever it is read.
    """
    context._source = source
