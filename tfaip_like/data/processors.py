"""`Processor`: one step from a raw sample to what the network sees."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from tfaip_like.params import Params
from tfaip_like.sample import Mode, Sample


class Processor(Params, abc.ABC):
    """Makes one sample of one sample, or drops it."""

    modes: ClassVar[tuple[Mode, ...]] = tuple(Mode)
    """When it runs. Augmentation, say, only with `(Mode.TRAIN,)`."""

    @abc.abstractmethod
    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        """The new sample; the given one must stay as it is (`dataclasses.replace` makes a changed copy).

        None drops the sample: while training another one takes its place, otherwise the batch is smaller.

        All randomness comes from `random`, which depends on the seed, the pass over the data, the
        sample and the place of the processor alone: a run is repeatable however its work is divided.
        """


class StreamProcessor(Processor):
    """Makes any number of samples of some samples: cuts one into pieces, joins several, packs.

    It sees the samples in groups and cannot join across their borders. Groups are worked on in
    parallel. How many samples come out is known only when they were made; so such a pipeline reads
    from the beginning of a pass to find a later place in it.
    """

    group: ClassVar[int] = 64
    """Samples in a group."""

    @abc.abstractmethod
    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        """The new samples of a group; `random` depends on the seed, the pass and the group alone."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        """Is never called: `process_group` is."""
        raise NotImplementedError
