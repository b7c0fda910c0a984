"""Network of dense layers with built-in feature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfaip_like import ArraySource, Model, Params, Tensors, keras, ops

from .data import Jets


class Scaling(Params):
    """Feature scaling before the first layer; lists have one value per feature."""

    missing: float
    """Value that marks missing values."""

    replacements: list[float]
    """Replacements of missing values."""

    means: list[float]
    """Means, subtracted after the replacement."""

    deviations: list[float]
    """Standard deviations, the divisors."""

    def apply(self, features: Any) -> Any:
        """Return scaled features of shape (batch, features)."""
        known = ops.where(ops.equal(features, self.missing), np.array(self.replacements, np.float32), features)
        return (known - np.array(self.means, np.float32)) / np.array(self.deviations, np.float32)


def fit_scaling(source: ArraySource, data: Jets) -> Scaling:
    """Return the scaling of training samples, computed feature by feature."""
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
    """Dense layers on scaled features; the scaling is part of the network, so exports take unscaled values."""

    units: list[int] = [64, 64, 32]
    """Units of each layer."""

    dropout: float = 0.1
    """Dropout rate after each layer, in [0, 1)."""

    classes: int | None = None
    """Number of classes; set from --data.classes."""

    scaling: Scaling | None = None
    """Feature scaling; computed from the training samples."""

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
        self.require(0 <= self.dropout < 1, "dropout", "must be in [0, 1)")
