"""Tutorial: most features of a scenario, on images of handwritten digits or clothes.

train-scenario scenarios.tutorial --trainer.output_dir runs/tutorial --trainer.epochs 10
train-scenario scenarios.tutorial --model.graph CNN --model.graph.filters 16 32 --data.name mnist
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfaip_like import (
    ArraySource,
    Data,
    Evaluator,
    Graph,
    Mode,
    Model,
    Processor,
    Sample,
    Scenario,
    Spec,
    Tensors,
    UsageError,
    keras,
)
from tfaip_like.summaries import ConfusionMatrix, Image, PRCurve, Summary


class Shift(Processor):
    """Augmentation that shifts images at random, in training only."""

    pixels: int = 1
    """Maximum shift in each direction, in pixels."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        down, right = random.integers(-self.pixels, self.pixels + 1, size=2)
        padded = np.pad(sample.inputs["image"], self.pixels)
        height, width = sample.inputs["image"].shape
        top, left = self.pixels - down, self.pixels - right
        return dataclasses.replace(sample, inputs={"image": padded[top : top + height, left : left + width]})


class Images(Data):
    """Grayscale images of ten classes."""

    name: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    """Dataset. digits (8x8) is part of scikit-learn; Keras downloads mnist and fashion_mnist (28x28)."""

    processors: list[Processor] = []
    """Processors of each sample, in this order; Shift augments training images."""

    targets = {"label": Spec((), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"image": Spec((8, 8) if self.name == "digits" else (28, 28))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        images, labels = self._digits(mode) if self.name == "digits" else self._from_keras(mode)
        return ArraySource({"image": images.astype("float32")}, {"label": labels})

    def _digits(self, mode: Mode) -> tuple[Any, Any]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        is_validation = np.arange(len(digits.target)) % 5 == 0
        chosen = ~is_validation if mode is Mode.TRAIN else is_validation
        return digits.images[chosen] / 16, digits.target[chosen]

    def _from_keras(self, mode: Mode) -> tuple[Any, Any]:
        try:
            train, test = getattr(keras.datasets, self.name).load_data()
        except Exception as error:
            raise UsageError(f"--data.name {self.name}: download failed: {error}") from error
        images, labels = train if mode is Mode.TRAIN else test
        return images / 255, labels


class MLP(Graph):
    """Sequence of dense layers."""

    units: list[int] = [256, 128]
    """Units of each layer."""

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Flatten()(inputs)
        for units in self.units:
            hidden = keras.layers.Dense(units, activation="relu")(hidden)
        return hidden


class CNN(Graph):
    """Convolutions with max pooling, followed by a dense layer."""

    filters: list[int] = [32, 64]
    """Filters of each convolution."""

    units: int = 128
    """Units of the dense layer."""

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)
        for filters in self.filters:
            hidden = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
            hidden = keras.layers.MaxPooling2D(2)(hidden)
        return keras.layers.Dense(self.units, activation="relu")(keras.layers.Flatten()(hidden))


class Classifier(Model):
    """Classifier: a graph, dropout and a softmax over ten classes."""

    graph: Graph = MLP()
    """Network between the image and the classification layer."""

    dropout: float = 0.2
    """Dropout rate before the classification layer, in [0, 1)."""

    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dropout(self.dropout)(self.graph.build(inputs["image"]))
        probabilities = keras.layers.Dense(10, activation="softmax", name="classify")(hidden)
        return {"probabilities": probabilities, "class": keras.ops.argmax(probabilities, axis=-1)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["probabilities"])}

    def check(self) -> None:
        self.require(0 <= self.dropout < 1, "dropout", "must be in [0, 1)")


class PerClassEvaluator(Evaluator):
    """Recall of the worst class, a confusion matrix, a PR curve and the worst mistakes."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        labels, classes, mistakes, probability_of_eight = [], [], [], []
        for sample in samples:
            label, probabilities = sample.targets["label"], sample.outputs["probabilities"]
            labels.append(label)
            classes.append(sample.outputs["class"])
            if sample.outputs["class"] != label:
                mistakes.append((probabilities[label], sample.inputs["image"]))
            probability_of_eight.append(probabilities[8])
        worst_first = sorted(mistakes, key=lambda mistake: float(mistake[0]))
        confusion = ConfusionMatrix(labels, classes, [str(number) for number in range(10)])
        return {
            "worst_class_recall": float(np.nanmin(confusion.per_class_recall())),
            "worst_mistakes": Image.grid([image for _, image in worst_first[:25]]),
            "is_it_an_8": PRCurve(np.equal(labels, 8), probability_of_eight),
            "confusion": confusion,
        }


class Tutorial(Scenario):
    """Classification of small images."""

    data: Data = Images()
    model: Model = Classifier()
    evaluator: Evaluator | None = PerClassEvaluator()

    def example_text(self, sample: Sample) -> str:
        guess = int(sample.outputs["class"])
        return f"looks like {guess} ({sample.outputs['probabilities'][guess]:.0%}), is {sample.targets['label']}"
