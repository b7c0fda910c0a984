"""Scenario that trains within milliseconds, configurable for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Processor, Sample, Scenario, Spec, Tensors, keras, ops
from tfaip_like.data import TrainLoaderSettings, ValLoaderSettings
from tfaip_like.settings import Trainer


class Noise(Processor):
    """Adds noise to inputs."""

    scale: float = 0.1
    """How much."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        noisy = sample.inputs["x"] + random.normal(0, self.scale, 2).astype("float32")
        return dataclasses.replace(sample, inputs={"x": noisy})


class Points(Data):
    """Two numbers and their sum."""

    samples: int = 100
    """How many to train on."""

    nan_at: int | None = None
    """A training sample whose target is NaN."""

    validation: bool = True
    """Whether there are samples to validate on."""

    inputs = {"x": Spec((2,))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        if mode is Mode.EVALUATE and not self.validation:
            return None
        x = np.random.default_rng(mode is Mode.TRAIN).random((self.samples, 2), dtype="float32")
        y = x.sum(axis=1)
        if self.nan_at is not None and mode is Mode.TRAIN:
            y[self.nan_at] = np.nan
        return ArraySource({"x": x}, {"y": y})


class Line(Model):
    """One hidden layer."""

    regularization: float = 0.0
    """L2 penalty of the hidden weights."""

    dropout: float = 0.1
    """Part of hidden values that is dropped."""

    def build(self, inputs: Tensors) -> Tensors:
        penalty = keras.regularizers.L2(self.regularization) if self.regularization else None
        hidden = keras.layers.Dense(8, activation="relu", name="hidden", kernel_regularizer=penalty)(inputs["x"])
        hidden = keras.layers.Dropout(self.dropout)(hidden)
        return {"sum": keras.layers.Dense(1, name="add")(hidden)[:, 0]}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (targets["y"] - outputs["sum"]) ** 2}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"error": ops.abs(targets["y"] - outputs["sum"])}


class Largest(Evaluator):
    """The largest error."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        errors = [abs(float(sample.targets["y"] - sample.outputs["sum"])) for sample in samples]
        return {"largest_error": max(errors), "count": len(errors)}


class Small(Scenario):
    """Learns to add."""

    data: Data = Points()
    model: Model = Line()
    evaluator: Evaluator | None = Largest()
    # Compiling takes longer than all steps here; tests of exactness ask for XLA (`jit_compile` None, the usual). The
    # sanity check takes a third of the time; its tests and the shipped scenarios run it.
    trainer: Trainer = Trainer(epochs=3, random_seed=7, jit_compile=False, sanity_check=False)
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=8)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=32)


def small(output_dir: Path | None = None, **changes: Any) -> Small:
    """Return the scenario with changes; those of groups as dicts."""
    scenario = Small()
    groups = {
        name: dataclasses.replace(getattr(scenario, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    scenario = dataclasses.replace(scenario, **groups)
    trainer = dataclasses.replace(scenario.trainer, output_dir=output_dir)
    return dataclasses.replace(scenario, trainer=trainer)
