"""Scenarios that hang while loading one sample, optionally after sending a signal to their process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from batches import wait_until
from stopping import NumberedPoints, Small

from tfaip_like import Data, Evaluator, Mode, Processor, Sample
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import StreamProcessor, TrainLoaderSettings
from tfaip_like.data._workers.process import WORKER_ENV_VAR
from tfaip_like.settings import Trainer


class Hang(Processor):
    """Processor that never returns for one sample."""

    index: int = 40
    """The sample."""

    stop: bool = True
    """Whether a signal is sent before."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.meta["number"] == self.index:
            hang(self.stop)
        return sample


STEPPED = Path("stepped")
"""File in the current directory that exists after the first step, which a busy machine makes late."""


def hang(stop: bool) -> None:
    """Never return."""
    if stop:
        send_signal()
    time.sleep(1000)


def send_signal() -> None:
    """Send a signal to the training after its first step: data are read ahead."""
    wait_until(STEPPED.exists)
    os.kill(os.getppid() if os.environ.get(WORKER_ENV_VAR) else os.getpid(), signal.SIGUSR1)


class MarkStep(Callback):
    """Callback that makes the file `STEPPED`."""

    every: str = "1steps"

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        STEPPED.touch()


class HangInTraining(Hang):
    """In training only."""

    modes = (Mode.TRAIN,)


class SlowInTraining(HangInTraining):
    """Processor that sends a signal, and is slow from then on."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.meta["number"] == self.index:
            send_signal()
        if sample.meta["number"] >= self.index:
            time.sleep(0.3)
        return sample


class HangInValidation(Hang):
    """In validation only."""

    modes = (Mode.EVALUATE,)


class HangInStream(StreamProcessor):
    """Stream processor that never returns for one group."""

    modes = (Mode.TRAIN,)

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            if sample.meta["number"] == 90:
                hang(stop=True)
            yield sample


class HangingSource(NumberedPoints):
    """Iterable source that never returns a sample."""

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        samples = super().source(mode)
        return _Iterable(samples) if mode is Mode.TRAIN and samples else samples  # type: ignore[return-value]


class _Iterable:
    def __init__(self, samples: Sequence[Sample]):
        self.samples = samples

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(self.samples):
            if number == 90:
                hang(stop=True)
            yield sample


class InTraining(Small):
    """In the sixth step of the first epoch."""

    data: Data = NumberedPoints(processors=[HangInTraining()])
    evaluator: Evaluator | None = None
    callbacks: list[Callback] = [MarkStep()]
    trainer: Trainer = Trainer(epochs=3, random_seed=7, jit_compile=False, steps_per_execution=1)
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=8, num_processes=0, shuffle=False)


class Slow(InTraining):
    """Slow data in the main process, from the sixth step on."""

    data: Data = NumberedPoints(processors=[SlowInTraining()])
    trainer: Trainer = Trainer(epochs=100, random_seed=7, jit_compile=False, steps_per_execution=1)


class InValidation(InTraining):
    """In the validation after the first epoch."""

    data: Data = NumberedPoints(processors=[HangInValidation()])
    trainer: Trainer = Trainer(epochs=3, random_seed=7, jit_compile=False, steps_per_execution=1, sanity_check=False)


class InStream(InTraining):
    """In a processor that makes many samples of some."""

    data: Data = NumberedPoints(processors=[HangInStream()])
    trainer: Trainer = Trainer(epochs=3, random_seed=7, jit_compile=False, steps_per_execution=1, samples_per_epoch=100)


class InSource(InStream):
    """In a source that is only iterated."""

    data: Data = HangingSource()


class Fails(InTraining):
    """Non-finite loss that ends the training while the data hang."""

    data: Data = NumberedPoints(samples=400, nan_at=0, processors=[HangInTraining(index=300, stop=False)])
