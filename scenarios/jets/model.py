"""The network: dense layers, on features that it scales itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfaip_like import ArraySource, Model, Params, Tensors, keras, ops

from .data import Jets


class Scaling(Params):
    """What the features become before the first layer, one number for each."""

    missing: float
    """Stands for a value that is missing."""

    replacements: list[float]
    """What it becomes."""

    means: list[float]
    """What is subtracted then."""

    deviations: list[float]
    """What is divided by."""

    def apply(self, features: Any) -> Any:
        """Scaled features, of tensors or arrays."""
        known = ops.where(ops.equal(features, self.missing), np.array(self.replacements, np.float32), features)
        return (known - np.array(self.means, np.float32)) / np.array(self.deviations, np.float32)


def fit_scaling(source: ArraySource, data: Jets) -> Scaling:
    """The scaling of some samples, from one feature after another."""
    moments = []
    for column in source.inputs["features"].T:
        known = column[column != data.default].astype(np.float64)
        moments.append((known.min(), known.mean(), known.std() or 1.0) if len(known) else (0.0, 0.0, 1.0))
    low, means, deviations = np.transpose(moments)
    units = deviations if data.default_shift_unit == "deviation" else 1.0
    replacements = low - data.default_shift * units
    return Scaling(
        missing=data.default,
        replacements=replacements.tolist(),
        means=means.tolist(),
        deviations=deviations.tolist(),
    )


class Tagger(Model):
    """Dense layers on scaled features. The scaling is part of the network: its export takes what files hold."""

    units: list[int] = [64, 64, 32]
    """Width of each layer."""

    dropout: float = 0.1
    """Part of hidden values that is dropped while training."""

    classes: int | None = None
    """Number of classes; follows from the data."""

    scaling: Scaling | None = None
    """Follows from the training samples."""

    best = "val_mean_auc", "max"

    def build(self, inputs: Tensors) -> Tensors:
        assert self.scaling is not None
        hidden = self.scaling.apply(inputs["features"])
        for units in self.units:
            hidden = keras.layers.Dense(units, activation="relu")(hidden)
            hidden = keras.layers.Dropout(self.dropout)(hidden)
        probabilities = keras.layers.Dense(self.classes, activation="softmax", name="classify")(hidden)
        return {"probabilities": probabilities, "class": ops.argmax(probabilities, axis=-1)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["class"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["class"], outputs["probabilities"])}

    def check(self) -> None:
        self.require(0 <= self.dropout < 1, "dropout", "must be from 0 to below 1")
