"""Side of `loaders.py` for tfaip_like: a source of indices, and a processor that makes samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from loaders import make

from tfaip_like import Data, Mode, Processor, Sample, Spec
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training


class Make(Processor):
    """Processor that makes a sample from its index."""

    is_thread_safe = True

    task: str
    """Name of the task."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        x, y = make(self.task, sample.meta["index"])
        return dataclasses.replace(sample, inputs={"x": x}, targets={"y": y})


class Indices(Sequence[Sample]):
    """Source of samples that hold their index."""

    is_thread_safe = True

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return Sample(meta={"index": index})


class GeneratedData(Data):
    """Data of the benchmark."""

    task: str
    """Name of the task."""

    count: int
    """Number of samples."""

    targets = {"y": Spec((), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        x, _ = make(self.task, 0)
        return {"x": Spec(x.shape, x.dtype.name)}

    def source(self, mode: Mode) -> Sequence[Sample]:
        return Indices(self.count)


def batches(task: str, batch: int, samples: int, workers: int) -> Iterator[tuple[Any, Any]]:
    """Yield all batches of a task."""
    data = GeneratedData(task=task, count=samples, processors=[Make(task=task)])
    settings = TrainLoaderSettings(batch_size=batch, num_processes=workers, shuffle=False)
    loader = open_training(data, data.source(Mode.TRAIN), settings, None, seed=0)
    for stack in loader.iter_training(0, loader.steps_per_epoch):
        for made in stack.unstack():
            yield made.inputs["x"], made.targets["y"]
    loader.close()
