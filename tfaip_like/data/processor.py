"""`Processor`: one step from a raw sample to what the network sees."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np

from tfaip_like.params import Params
from tfaip_like.sample import Mode, Sample


class Processor(Params, abc.ABC):
    """Makes one sample of one sample."""

    modes: ClassVar[tuple[Mode, ...]] = tuple(Mode)
    """When it runs. Augmentation, say, only with `(Mode.TRAIN,)`."""

    @abc.abstractmethod
    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        """The new sample; the given one must stay as it is (`dataclasses.replace` makes a changed copy).

        All randomness comes from `random`, which depends on the seed, the pass over the data and the
        sample alone: a run is repeatable however its work is divided.
        """
