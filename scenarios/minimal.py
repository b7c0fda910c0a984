"""Smallest useful scenario: 8x8-pixel digits, one hidden layer."""

from collections.abc import Sequence

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras


class Digits(Data):
    """Handwritten digits from scikit-learn; every fifth is held out for validation."""

    inputs = {"image": Spec((8, 8))}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        chosen = [(i % 5 == 0) != (mode is Mode.TRAIN) for i in range(len(digits.target))]
        return ArraySource({"image": digits.images[chosen] / 16}, {"label": digits.target[chosen]})


class Classifier(Model):
    """Classifier with one hidden layer."""

    units: int = 128
    """Units of the hidden layer."""

    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Flatten()(inputs["image"])
        hidden = keras.layers.Dense(self.units, activation="relu")(hidden)
        return {"probabilities": keras.layers.Dense(10, activation="softmax")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["probabilities"])}


class Minimal(Scenario):
    """Classification of handwritten digits."""

    data: Data = Digits()
    model: Model = Classifier()
