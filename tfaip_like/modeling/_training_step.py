"""`TrainingStep`: what a `Model.train_step` of a user works with, the same on each backend."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import keras

Trainable: TypeAlias = "keras.Layer | keras.Variable | Sequence[Trainable]"
"""Part of a network, a weight, or several of them."""


class TrainingBatch(NamedTuple):
    """Batch of a training step.

    Example:
        >>> batch = TrainingBatch({"x": [1.0]}, {"y": [2.0]})
        >>> batch.targets["y"]
        [2.0]
    """

    inputs: Mapping[str, Any]
    """Inputs by name."""
    targets: Mapping[str, Any]
    """Targets by name, without texts."""


class TrainingStep(abc.ABC):
    """Updates of the weights within `Model.train_step`, in backend-neutral code.

    Example::

        def train_step(self, batch, step):
            generator, critic = step.network.get_layer("generator"), step.network.get_layer("critic")

            def critic_loss():
                fake = generator(keras.random.normal((64, 16), seed=step.seed), training=True)
                return ops.mean(critic(fake, training=True)) - ops.mean(critic(batch.inputs["image"], training=True))

            for _ in range(5):
                loss = step.minimize(critic_loss, critic, optimizer="critic")
            return {"critic": loss}

    Attributes:
        network: Network of `Model.build`; its parts are `step.network.get_layer(NAME)`.
        seed: Seed generator for functions of `keras.random`; its state is part of checkpoints.
    """

    network: keras.Model
    seed: keras.random.SeedGenerator

    @abc.abstractmethod
    def minimize(self, loss: Callable[[], Any], variables: Trainable, optimizer: str = "") -> Any:
        """Update weights by one step of an optimizer, and return the loss before the update.

        A step with a non-finite loss or gradient updates nothing more; `--trainer.on_nan` decides what follows.

        Args:
            loss: Function that returns a scalar loss; weights are read within it.
            variables: Layers, models or weights to update; frozen weights keep their values.
            optimizer: Name of an optimizer in `Scenario.optimizers`; by default `--optimizer`.
        """

    @abc.abstractmethod
    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        """Return the gradient of the sum of a function's values with respect to its argument, such as for a penalty.

        It can be called within the loss of `minimize`, which differentiates it again.

        Args:
            function: Function of a tensor.
            x: Tensor at which the gradient is computed.
        """


def trainable_variables(variables: Trainable) -> list[keras.Variable]:
    """Return the trainable weights of layers and weights, each once."""
    return list({id(variable): variable for variable in _iter_variables(variables) if variable.trainable}.values())


def _iter_variables(variables: Trainable) -> Iterator[keras.Variable]:
    if isinstance(variables, Sequence):
        for part in variables:
            yield from _iter_variables(part)
    elif hasattr(variables, "trainable_variables"):
        yield from variables.trainable_variables
    else:
        yield variables
