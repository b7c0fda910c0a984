"""Data with processors in Python, importable by data workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfaip_like import Data, Mode, Processor, Sample, Spec
from tfaip_like.data import StreamProcessor


class Jitter(Processor):
    """Adds a random number."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return dataclasses.replace(sample, inputs={"x": sample.inputs["x"] + random.random(3, dtype="float32")})


WAKE = threading.Event()
"""Ends the sleep of the threads of a test; a process sleeps until it is killed."""


class AtSample(Processor):
    """Does something bad at one sample."""

    index: int = 5
    """Which one."""

    what: str = "raise"
    """raise, sleep, die, die_once, drop; slow and compute (in C code) concern all samples but the first."""

    marker: str = "died"
    """Is made when the process dies once."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        if self.what == "slow":
            time.sleep(0.3)
        if self.what == "compute" and sample.meta["number"]:
            sum(range(10**13))
        if sample.meta.get("number") != self.index:
            return sample
        if self.what == "raise":
            raise ValueError("this one is bad")
        if self.what == "sleep":
            WAKE.wait(1000)
        if self.what == "die" or (self.what == "die_once" and not Path(self.marker).exists()):
            if self.what == "die_once":
                Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return None if self.what == "drop" else sample


class Pieces(StreamProcessor):
    """Makes as many samples of one as its number says, modulo 3, and joins none."""

    group = 4

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            for piece in range(sample.meta["number"] % 3):
                yield dataclasses.replace(sample, inputs={"x": sample.inputs["x"] + piece + random.random()})


class Counted(Data):
    """Samples that know their number."""

    count: int = 50
    """How many."""

    ragged: bool = False
    """Whether they have different lengths."""

    iterable: bool = False
    """Whether the source can only be iterated."""

    targets = {"y": Spec((), "int32")}

    @property
    def inputs(self) -> dict[str, Spec]:
        return {"x": Spec((None,) if self.ragged else (3,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        samples = [self.sample(number) for number in range(self.count)]
        return ReiterableSource(samples) if self.iterable else samples  # type: ignore[return-value]

    def sample(self, number: int) -> Sample:
        length = 1 + number % 7 if self.ragged else 3
        return Sample({"x": np.full(length, number, "float32")}, {"y": number}, meta={"number": number})


class ReiterableSource:
    """Samples without length and index."""

    def __init__(self, samples: Sequence[Sample]):
        self.samples = samples

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)
