"""Scenarios of the campaigns: four pipelines and six tiny networks, with a point for every fault_points."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.faults.fault_points import is_armed, reach
from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Processor, Sample, Scenario, Spec, Tensors, keras, ops
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import StreamProcessor
from tfaip_like.list_files import ListFileData, ListFileScenario
from tfaip_like.loggers import Logger
from tfaip_like.summaries import Summary

SAMPLES = 32
"""Training samples per epoch; validation has half as many."""
BATCH = 4
STEPS = SAMPLES // BATCH
"""Steps in an epoch."""
SEQUENCE_LENGTH = 6
NUM_FEATURES = 4
TARGET_SAMPLE_VARIABLE = "FAULTS_SAMPLE"
"""The number of the sample at which a point of the pipeline is reached."""
ORDER_FILE_VARIABLE = "FAULTS_ORDER"
"""A file that gets the number of each training sample, in their order."""


def make_values(number: int, length: int) -> npt.NDArray[np.float32]:
    """Return the values of a sample; its number is in the first column, where noise does not reach."""
    drawn = np.random.default_rng(number).normal(size=(length, NUM_FEATURES)).astype("float32")
    drawn[:, 0] = number / SAMPLES
    return drawn


def make_sample(number: int, length: int = SEQUENCE_LENGTH) -> Sample:
    """Return a sample with its target."""
    x = make_values(number, length)
    return Sample({"x": x}, {"y": x[:, 1].sum()})


def sample_numbers(mode: Mode) -> range:
    """Return the numbers of the samples of a mode."""
    return range(SAMPLES) if mode is Mode.TRAIN else range(SAMPLES, SAMPLES + SAMPLES // 2)


class FaultPointProcessor(Processor):
    """Adds noise, and reaches the points of the pipeline at one sample."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        x = sample.inputs["x"]
        number = round(float(x[0, 0]) * SAMPLES)
        if number < SAMPLES and (file := os.environ.get(ORDER_FILE_VARIABLE)):
            with open(file, "a") as order:
                order.write(f"{number}\n")
        if str(number) == os.environ.get(TARGET_SAMPLE_VARIABLE):
            reach("waiting" if number < SAMPLES else "validation data")
        noisy = x + np.r_[0, random.normal(0, 0.1, NUM_FEATURES - 1)].astype("float32")
        return dataclasses.replace(sample, inputs={"x": noisy})


class DuplicateSamples(StreamProcessor):
    """Processor that makes two samples from each one."""

    group = 4

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            for _ in range(2):
                scale = np.r_[1, random.uniform(0.9, 1.1, NUM_FEATURES - 1)].astype("float32")
                yield dataclasses.replace(sample, inputs={"x": sample.inputs["x"] * scale})


class FixedLengthData(Data):
    """Samples of one length, in arrays."""

    processors: list[Processor] = [FaultPointProcessor()]
    inputs = {"x": Spec((SEQUENCE_LENGTH, NUM_FEATURES))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> ArraySource:
        x = np.stack([make_values(number, SEQUENCE_LENGTH) for number in sample_numbers(mode)])
        return ArraySource({"x": x}, {"y": x[:, :, 1].sum(axis=1)})


class RaggedData(Data):
    """Samples of any length."""

    processors: list[Processor] = [FaultPointProcessor()]
    inputs = {"x": Spec((None, NUM_FEATURES))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> list[Sample]:
        return [make_sample(number, 2 + number % 5) for number in sample_numbers(mode)]


class IterableSource:
    """Source without random access."""

    def __init__(self, mode: Mode):
        self.mode = mode

    def __iter__(self) -> Iterator[Sample]:
        return (make_sample(number, 2 + number % 5) for number in sample_numbers(self.mode)[::2])


class StreamData(Data):
    """A source without an index, and a processor that makes several samples of one."""

    processors: list[Processor] = [DuplicateSamples(), FaultPointProcessor()]
    inputs = {"x": Spec((None, NUM_FEATURES))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> IterableSource:
        return IterableSource(mode)


class FileData(ListFileData):
    """Samples in files."""

    suffixes = (".npy",)
    processors: list[Processor] = [FaultPointProcessor()]
    inputs = {"x": Spec((SEQUENCE_LENGTH, NUM_FEATURES))}
    targets = {"y": Spec(())}

    def sample(self, file: Path) -> Sample:
        x = np.load(file)
        return Sample({"x": x}, {"y": x[:, 1].sum()}, meta={"file": str(file)})


def write_lists(folder: Path) -> list[str]:
    """Write the files and lists of `FileData`; return the flags that name them."""
    flags = []
    for flag, mode in (("--train.lists", Mode.TRAIN), ("--val.lists", Mode.EVALUATE)):
        names = [f"{number:03d}.npy" for number in sample_numbers(mode)]
        for name, number in zip(names, sample_numbers(mode), strict=True):
            np.save(folder / name, make_values(number, SEQUENCE_LENGTH))
        listed = folder / f"{mode.value}.lst"
        listed.write_text("\n".join(names) + "\n")
        flags += [flag, str(listed)]
    return flags


class FaultModel(Model):
    """A network between a probe and one number."""

    scale: float = 1.0
    """Factor of the loss."""

    best = "val_seen", "max"
    """Every epoch is the best so far, so that each is exported."""

    def build(self, inputs: Tensors) -> Tensors:
        from scripts.faults.layers import BatchCounter, Probe

        hidden = self.body(Probe(name="probe")(inputs["x"]))
        sums = keras.layers.Dense(1, dtype="float32", name="head")(hidden)[:, 0]
        return {"sum": sums, "seen": BatchCounter(dtype="float32", name="seen")(sums)}

    def body(self, x: Any) -> Any:
        """Return what the head sees, (batch, n)."""
        raise NotImplementedError

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": self.scale * (targets["y"] - outputs["sum"]) ** 2}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"error": ops.abs(targets["y"] - outputs["sum"]), "seen": outputs["seen"]}


class BatchNorm(FaultModel):
    """Statistics of batches, and dropout."""

    def body(self, x: Any) -> Any:
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(6)(x))
        return keras.layers.Dropout(0.2)(ops.mean(ops.relu(hidden), axis=1))


class Recurrent(FaultModel):
    """A recurrent layer with both kinds of dropout, whose generators advance in inference too."""

    def body(self, x: Any) -> Any:
        return keras.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.2)(x)


class VAE(FaultModel):
    """Samples in the middle, without a seed."""

    def body(self, x: Any) -> Any:
        from scripts.faults.layers import Sampling

        hidden = ops.mean(keras.layers.Dense(6, activation="relu")(x), axis=1)
        return Sampling()(keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden) - 3.0)


class Plain(FaultModel):
    """Dense layers; trained in mixed float16, with a scaled loss whose first steps overflow."""

    scale: float = 1000.0
    """Factor of the loss."""

    def body(self, x: Any) -> Any:
        return keras.layers.Dense(6, activation="relu")(ops.mean(keras.layers.Dense(6)(x), axis=1))


class BFloat16(FaultModel):
    """A layer in bfloat16."""

    def body(self, x: Any) -> Any:
        hidden = keras.layers.Dense(6, activation="relu", dtype="bfloat16")(x)
        return keras.layers.Dropout(0.2)(ops.cast(ops.mean(hidden, axis=1), "float32"))


class Custom(FaultModel):
    """A layer with its own state, which changes in inference."""

    def body(self, x: Any) -> Any:
        from scripts.faults.layers import StatefulNoise

        return StatefulNoise(name="drifting")(ops.mean(keras.layers.Dense(6, activation="relu")(x), axis=1))


class Tiny(FaultModel):
    """As few variables as possible: the files campaign counts the operations of a run."""

    def body(self, x: Any) -> Any:
        return keras.layers.Dropout(0.2)(ops.mean(x, axis=1))


class ErrorEvaluator(Evaluator):
    """Mean and largest error; reaches a point in the middle."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        errors = []
        for number, sample in enumerate(samples):
            if number == BATCH + 1 and is_armed("evaluator"):
                reach("evaluator")
            errors.append(abs(float(sample.targets["y"] - sample.outputs["sum"])))
        return {"mean_error": float(np.mean(errors)), "largest_error": max(errors)}


class CountCalls(Callback):
    """Counts the calls of its hooks, in its state and in the history."""

    every: str = "3steps"

    def on_train_begin(self, run: RunContext) -> None:
        self.steps = 0
        self.validations = 0

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        self.steps += 1
        reach("callback step")

    def on_validation_end(
        self, run: RunContext, metrics: Mapping[str, float], summaries: Mapping[str, Summary]
    ) -> None:
        self.validations += 1
        reach("callback validation")

    def on_epoch_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        run.log("calls", 100 * self.steps + self.validations)
        reach("callback epoch")


class FaultPointLogger(Logger):
    """Reaches a point in its thread."""

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: float) -> None:
        reach("logger")


class Arrays(Scenario):
    """Arrays in the main process."""

    data: Data = FixedLengthData()
    model: Model = BatchNorm()
    evaluator: Evaluator | None = ErrorEvaluator()
    callbacks: list[Callback] = [CountCalls()]


class Processes(Arrays):
    """Samples of any length from data workers."""

    data: Data = RaggedData()


class Streams(Arrays):
    """A source without an index."""

    data: Data = StreamData()


class Lists(ListFileScenario):
    """Samples in files that lists name."""

    data: ListFileData = FileData()
    model: Model = BatchNorm()
    evaluator: Evaluator | None = ErrorEvaluator()
    callbacks: list[Callback] = [CountCalls()]
