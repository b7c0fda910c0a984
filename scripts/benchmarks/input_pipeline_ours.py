"""Our side of `input_pipeline.py`: a source of indices, and a processor that makes the sample of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from input_pipeline import make

from tfaip_like import Data, Mode, Processor, Sample, Spec
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.opening import open_training


class Make(Processor):
    """Makes a sample of its index."""

    task: str
    """Which task's."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        x, y = make(self.task, sample.meta["index"])
        return dataclasses.replace(sample, inputs={"x": x}, targets={"y": y})


class Indices(Sequence[Sample]):
    """Samples that know their index."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return Sample(meta={"index": index})


class GeneratedData(Data):
    """What the batches hold."""

    count: int
    """How many samples."""

    inputs = {"x": Spec((32, 32))}
    targets = {"y": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        return Indices(self.count)


def batches(task: str, samples: int, batch: int, processes: int) -> Iterator[tuple[Any, Any]]:
    """All batches of a task, one by one."""
    data = GeneratedData(count=samples, processors=[Make(task=task)])
    settings = TrainLoaderSettings(batch_size=batch, num_processes=processes, shuffle=False)
    opened = open_training(data, data.source(Mode.TRAIN), settings, None, seed=0)
    for stack in opened.iter_training(0, opened.steps_per_epoch):
        for made in stack.unstack():
            yield made.inputs["x"], made.targets["y"]
    opened.close()
