"""Template: classification of points in the plane by their spiral.

train-scenario template --trainer.output_dir runs/template
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras


class TemplateData(Data):
    """Points on three spirals, generated from a seed; replace them with your own samples."""

    noise: float = 0.1
    """Noise of the points; 0 puts them exactly on their spirals."""

    # Shape and dtype of the network inputs and targets of one sample.
    inputs = {"point": Spec((2,))}
    targets = {"spiral": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        # 2,000 points for training and 500 others for validation.
        count = 2000 if mode is Mode.TRAIN else 500
        random = np.random.default_rng(1 if mode is Mode.TRAIN else 2)
        spiral = random.integers(0, 3, count)
        radius = random.random(count)
        angle = 4 * radius + spiral * 2 * np.pi / 3
        points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
        points += random.normal(0, 0.3 * self.noise, points.shape)
        return ArraySource({"point": points.astype("float32")}, {"spiral": spiral})


class TemplateModel(Model):
    """Dense layers and a softmax over the classes."""

    units: list[int] = [64, 64]
    """Units of each hidden layer."""

    # Logged value that selects the best epoch.
    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        hidden = inputs["point"]
        for units in self.units:
            hidden = keras.layers.Dense(units, activation="relu")(hidden)
        return {"probabilities": keras.layers.Dense(3, activation="softmax")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        # One value for each sample of the batch; training minimizes the mean.
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["spiral"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["spiral"], outputs["probabilities"])}


class Template(Scenario):
    """Classification of three spirals."""

    data: Data = TemplateData()
    model: Model = TemplateModel()
