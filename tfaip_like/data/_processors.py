"""`Processor`: one step from a raw sample to what the network sees."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import with_article
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.params import Params


class DropSample(Exception):  # noqa: N818  (an instruction, not an error)
    """Raised by a processor to drop the sample it was given; the text is the reason, which is reported.

    Example:
        ``raise DropSample(f"too narrow: {columns} columns for {len(text)} characters")``
    """


class Processor(Params, abc.ABC):
    """Makes one sample of one sample, or drops it."""

    foreign_name_hints = dict.fromkeys(
        ("call", "apply", "transform", "map", "preprocess", "process_sample"), "a sample is changed in `process`"
    )

    modes: tuple[Mode, ...] = tuple(Mode)
    """When it runs: TRAIN, EVALUATE, PREDICT."""

    @abc.abstractmethod
    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        """Return the new sample, and leave the given one as it is (`dataclasses.replace` makes a changed copy).

        A sample is dropped by returning None, or by raising `DropSample` with the reason: while training another one
        takes its place, otherwise the batch is smaller. What was dropped is reported once, by processor.

        All randomness comes from `random`, which depends on the seed, the pass over the data, the
        sample and the place of the processor alone: a run is repeatable however its work is divided.
        """

    def check(self) -> None:
        self.require(bool(self.modes), "modes", "at least one of TRAIN, EVALUATE, PREDICT")

    def validate_result(self, made: object) -> None:
        """Check what `process` returned.

        Raises:
            CodeError: when it is neither a sample nor None.
        """
        if made is not None and not isinstance(made, Sample):
            name, returned = type(self).__name__, with_article(type(made).__name__)
            raise CodeError(f"{name}.process returned {returned}, not a Sample (or None)", self.process)


class StreamProcessor(Processor):
    """Makes any number of samples of some samples: cuts one into pieces, joins several, packs.

    It sees the samples in groups and cannot join across their borders. Groups are worked on in parallel. Behind another
    StreamProcessor its groups are cut out of what that one made.
    """

    group: int = 64
    """Samples in a group; only the last group of a pass may be smaller."""

    @abc.abstractmethod
    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        """Yield the new samples of a group; `random` depends on the seed, the pass and the group alone.

        Yield what is made of a sample before asking for the next one where that is possible: then messages name the
        sample, and no group has to fit into memory.
        """

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        """Is never called: `process_group` is."""
        raise NotImplementedError

    def check(self) -> None:
        super().check()
        self.require(self.group >= 1, "group", "must be at least 1")
