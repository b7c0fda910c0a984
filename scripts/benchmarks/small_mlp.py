"""Benchmark of a small MLP: our trainer and plain `keras.Model.fit`, both with their defaults.

Both train the same network (784 - 128 - 10, Adam, float32) on the same 60,000 images of 28x28 random
pixels in batches of 16, shuffled, with the loss and the accuracy as metrics. Plain Keras reads a ready
`tf.data` set (arrays in memory, shuffle, batch, prefetch). Each side runs in a separate process, the
two in turn; the first epoch of a process, which compiles, is not counted. What is compared is the
time from the beginning of an epoch to its end, without validation.

    python scripts/benchmarks/small_mlp.py [ROUNDS]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from interleaved import measure_epoch_seconds, medians

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, Tensors, keras, train
from tfaip_like.settings import Trainer

SAMPLES, BATCH, EPOCHS = 60_000, 16, 4


def arrays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return random images and labels, the same for both variants."""
    random = np.random.default_rng(0)
    return random.random((SAMPLES, 28, 28), dtype="float32"), random.integers(0, 10, SAMPLES).astype("int32")


class Images(Data):
    """Random images."""

    inputs = {"image": Spec((28, 28))}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> ArraySource | None:
        images, labels = arrays()
        return ArraySource({"image": images}, {"label": labels}) if mode is Mode.TRAIN else None


class MLP(Model):
    """Network with 784, 128 and 10 units."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(inputs["image"]))
        return {"logits": keras.layers.Dense(10)(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["logits"], from_logits=True)
        return {"cross_entropy": loss}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["logits"])}


class Benchmark(Scenario):
    """Scenario of the benchmark."""

    data: Data = Images()
    model: Model = MLP()
    trainer: Trainer = Trainer(epochs=EPOCHS)


def ours() -> list[float]:
    """Return the seconds of each epoch of our trainer."""
    return [row["seconds"] for row in train(Benchmark()).history]


def plain() -> list[float]:
    """Return the seconds of each epoch of plain Keras."""
    import tensorflow as tf

    images, labels = arrays()
    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, metrics=["accuracy"])
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(SAMPLES).batch(BATCH).prefetch(4)
    return measure_epoch_seconds(network, dataset, EPOCHS)


def main() -> None:
    """Print the epoch times of each round, the medians and their ratio."""
    seconds = medians(__doc__, {"plain": plain, "ours": ours}, rounds=5)
    print(f"median epoch: plain {seconds['plain']:.2f} s, ours {seconds['ours']:.2f} s")
    print(f"ratio ours / plain: {seconds['ours'] / seconds['plain']:.2f}")


if __name__ == "__main__":
    main()
