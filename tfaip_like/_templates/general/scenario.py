"""Template: tells which of three spirals a point in the plane lies on.

train-scenario template --trainer.output_dir runs/template
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras


class TemplateData(Data):
    """Points on three spirals, drawn from a seed: replace them by your own samples."""

    noise: float = 0.1
    """How far points lie beside their spiral."""

    # What the network sees and what it should answer: the shape of one sample, and its type.
    inputs = {"point": Spec((2,))}
    targets = {"spiral": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        # 2,000 points to train on, and 500 others to validate.
        count = 2000 if mode is Mode.TRAIN else 500
        random = np.random.default_rng(1 if mode is Mode.TRAIN else 2)
        spiral = random.integers(0, 3, count)
        radius = random.random(count)
        angle = 4 * radius + spiral * 2 * np.pi / 3
        points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
        points += random.normal(0, 0.3 * self.noise, points.shape)
        return ArraySource({"point": points.astype("float32")}, {"spiral": spiral})


class TemplateModel(Model):
    """Hidden layers one after another, and a probability for each class."""

    units: list[int] = [64, 64]
    """Width of each hidden layer."""

    # The logged value that tells which epoch is best.
    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        hidden = inputs["point"]
        for units in self.units:
            hidden = keras.layers.Dense(units, activation="relu")(hidden)
        return {"probabilities": keras.layers.Dense(3, activation="softmax")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        # One number for each sample of the batch; the mean is minimised.
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["spiral"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["spiral"], outputs["probabilities"])}


class Template(Scenario):
    """Tells three spirals apart."""

    data: Data = TemplateData()
    model: Model = TemplateModel()
