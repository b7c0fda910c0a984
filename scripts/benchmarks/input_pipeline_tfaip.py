"""Variant of `input_pipeline.py` for tfaip, for an environment with ocrd-fork-tfaip; written from its documentation."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from input_pipeline import make
from paiargparse import pai_dataclass
from tfaip import DataBaseParams, DataGeneratorParams, PipelineMode, Sample
from tfaip.data.databaseparams import DataPipelineParams, SequentialProcessorPipelineParams
from tfaip.data.pipeline.datagenerator import DataGenerator
from tfaip.data.pipeline.processor.dataprocessor import DataProcessorParams, MappingDataProcessor


@pai_dataclass
@dataclass
class IndexesParams(DataGeneratorParams):
    """Number of indices."""

    samples: int = 0

    @staticmethod
    def cls() -> type[DataGenerator]:
        return Indexes


class Indexes(DataGenerator[IndexesParams]):
    """Indices as samples, which a processor fills."""

    def __len__(self) -> int:
        return int(self.params.samples)

    def generate(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield Sample(inputs=index, targets=index)


@pai_dataclass
@dataclass
class MakeParams(DataProcessorParams):
    """Name of the task."""

    task: str = "python"

    @staticmethod
    def cls() -> type[MappingDataProcessor]:
        return Make


class Make(MappingDataProcessor[MakeParams]):
    """Processor that makes a sample from its index."""

    def apply(self, sample: Sample) -> Sample:
        x, y = make(self.params.task, sample.inputs)
        return sample.new_inputs({"x": x}).new_targets({"y": np.asarray([y])})


@pai_dataclass
@dataclass
class MadeParams(DataBaseParams):
    """Parameters of the data."""

    @staticmethod
    def cls() -> type:
        return data_class()


def data_class() -> type:
    """Return the data class; it is local, since workers import this module and do not need TensorFlow."""
    import tensorflow as tf
    from tfaip.data.data import DataBase

    class Made(DataBase[MadeParams]):
        """Data of the benchmark."""

        def _input_layer_specs(self) -> dict[str, Any]:
            return {"x": tf.TensorSpec((32, 32), "float32")}

        def _target_layer_specs(self) -> dict[str, Any]:
            return {"y": tf.TensorSpec((1,), "int32")}

    return Made


def batches(task: str, samples: int, batch: int, processes: int, keep: bool) -> Iterator[tuple[Any, Any]]:
    """Yield all batches of a task, made by parallel workers."""
    processors = SequentialProcessorPipelineParams(run_parallel=True, processors=[MakeParams(task=task)])
    if keep:
        processors.max_tasks_per_process = samples
    data = data_class()(MadeParams(pre_proc=processors))
    setup = DataPipelineParams(mode=PipelineMode.TRAINING, batch_size=batch, num_processes=processes)
    pipeline = data.create_pipeline(setup, IndexesParams(samples=samples))
    with pipeline.generate_input_batches(auto_repeat=False) as made:
        for inputs, targets, _ in made:
            yield np.asarray(inputs["x"]), np.asarray(targets["y"])
