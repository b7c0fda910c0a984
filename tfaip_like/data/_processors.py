"""`Processor` and `StreamProcessor`: transforms of samples."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import with_article
from tfaip_like.data._sample import Arrays, Mode, Sample
from tfaip_like.params import Params


class DropSample(Exception):  # noqa: N818  (an instruction, not an error)
    """Exception that a processor raises to drop its sample; the text is the reported reason.

    Example:
        >>> class DropEmpty(Processor):
        ...     def process(self, sample, random):
        ...         if not sample.meta["text"]:
        ...             raise DropSample("empty text")
        ...         return sample
    """


class Processor(Params, abc.ABC):
    """Base class of transforms of single samples.

    Example:
        >>> import dataclasses
        >>> class Scale(Processor):
        ...     factor: float = 1 / 255
        ...
        ...     def process(self, sample, random):
        ...         return dataclasses.replace(sample, inputs={"image": sample.inputs["image"] * self.factor})
        >>> Scale(factor=2).process(Sample({"image": 3}), np.random.default_rng()).inputs
        {'image': 6}
    """

    plugin_group = "tfaip_like.processors"

    foreign_name_hints = dict.fromkeys(
        ("call", "apply", "transform", "map", "preprocess", "process_sample"), "transform a sample in `process`"
    )

    modes: tuple[Mode, ...] = tuple(Mode)
    """Modes in which it runs: TRAIN, EVALUATE, PREDICT."""

    is_thread_safe: ClassVar[bool] = False
    """Whether data workers may be threads by default. Each thread has its own copy of the processor, so only global
    state is a reason against it: module variables, the working directory, a library that is not thread-safe."""

    @abc.abstractmethod
    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        """Return the transformed sample, without modifying the given one (use `dataclasses.replace`).

        Return None to drop the sample: in training another one replaces it, in other modes the batch is smaller.
        Dropped samples are reported once per processor.

        Args:
            sample: sample with read-only arrays.
            random: the only source of randomness; depends on the seed, the pass, the sample and the position of the
                processor, so that a run is reproducible with any number of workers.

        Raises:
            DropSample: to drop the sample with a reason.
        """

    def process_batch(self, inputs: Arrays, targets: Arrays) -> tuple[Arrays, Arrays]:
        """Return the transformed arrays of a batch; optional, for processors that take less than 50 microseconds.

        It replaces `process` if all later processors define it too, and samples have equal shapes. Each row must be
        exactly what `process` returns: no random numbers, no dropped samples, no use or change of meta. If it raises an
        exception, `process` is called for each sample, which names the faulty one.

        Args:
            inputs: inputs by name, each of shape (batch, ...); may be modified.
            targets: targets by name, likewise.
        """
        raise NotImplementedError

    def check(self) -> None:
        self.require(bool(self.modes), "modes", "must contain at least one of TRAIN, EVALUATE, PREDICT")

    def validate_result(self, result: object) -> None:
        """Check a result of `process`.

        Raises:
            CodeError: if it is neither a sample nor None.
        """
        if result is not None and not isinstance(result, Sample):
            name, returned = type(self).__name__, with_article(type(result).__name__)
            raise CodeError(f"{name}.process returned {returned}, expected a Sample or None", self.process)


class StreamProcessor(Processor):
    """Base class of transforms of groups of samples: one-to-many, many-to-one, packing.

    Groups are processed in parallel and independently. After another StreamProcessor, groups are formed from its
    results.

    Example:
        >>> class Split(StreamProcessor):
        ...     def process_group(self, samples, random):
        ...         for sample in samples:
        ...             yield from (Sample({"token": token}) for token in sample.inputs["tokens"])
        >>> [sample.inputs["token"] for sample in Split().process_group([Sample({"tokens": [1, 2]})], None)]
        [1, 2]
    """

    group: int = 64
    """Samples per group; only the last group of a pass may be smaller."""

    @abc.abstractmethod
    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        """Yield the resulting samples of a group.

        If possible, yield the results of a sample before requesting the next one, so that errors name the right
        sample and the group need not fit into memory.

        Args:
            samples: samples of the group, read lazily.
            random: the only source of randomness; depends on the seed, the pass and the group.
        """

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        raise NotImplementedError("a StreamProcessor must define process_group, not process")

    def check(self) -> None:
        super().check()
        self.require(self.group >= 1, "group", "must be at least 1")
