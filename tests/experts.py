"""Scenario with experts for tests of batches; each expert learns a different sum."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from small import Points, Small

from tfaip_like import Data, Mode, Processor, Sample
from tfaip_like.settings import Trainer


class Pause(Processor):
    """Takes its time."""

    seconds: float = 0.01
    """How long, for each sample."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        time.sleep(self.seconds)
        return sample


class Part(Points):
    """The points of one expert."""

    expert: Literal[1, 2, 3, 4, 5] = 1
    """Whose."""

    fails: bool = False
    """Whether there is something wrong with them."""

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        if self.fails:
            raise ValueError("these points are bad")
        return super().source(mode)


class Experts(Small):
    """Learns to add, for one expert."""

    data: Data = Part()
    # As users have it: without a seed, which a batch counts.
    trainer: Trainer = Trainer(epochs=2, jit_compile=False)
