"""`Data`: the samples of a scenario and what they look like."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

from tfaip_like.data.processor import Processor
from tfaip_like.params import Params
from tfaip_like.sample import Mode, Sample, Spec


class Data(Params, abc.ABC):
    """The samples of a scenario.

    `inputs` and `targets` are plain attributes of a subclass, or properties where they depend on
    parameters::

        inputs = {"image": Spec((8, 8))}
        targets = {"label": Spec((), "int32")}
    """

    processors: list[Processor] = []
    """What is done to each sample before it goes into a batch, in this order."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """Name and specification of each array that the network sees."""
        raise NotImplementedError(f"{type(self).__name__} needs `inputs`: {{name: Spec(shape, dtype)}}")

    @property
    def targets(self) -> Mapping[str, Spec]:
        """Name and specification of each array that the network should produce or that losses need."""
        return {}

    @abc.abstractmethod
    def source(self, mode: Mode) -> Sequence[Sample] | None:
        """The samples for training or evaluation, in a fixed order, by their index.

        Any object with `len()` and an index does: a list, a class that reads a file for each index,
        or an `ArraySource`, which is by far the fastest. None or nothing for evaluation: there is no
        validation.
        """
