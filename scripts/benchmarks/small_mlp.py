"""An epoch of a small MLP: our trainer with its defaults against plain `keras.Model.fit` with its defaults.

Both train the same network (784 - 128 - 10, Adam, float32) on the same 60,000 images of 28x28 random
pixels in batches of 16, shuffled, with the loss and the accuracy as metrics. Plain Keras reads a ready
`tf.data` set (arrays in memory, shuffle, batch, prefetch). Each side runs in a process of its own, the
two in turn; the first epoch of a process, which compiles, is not counted. What is compared is the
time from the beginning of an epoch to its end, without validation.

    python scripts/benchmarks/small_mlp.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, Tensors, keras, train
from tfaip_like.settings import Trainer

SAMPLES, BATCH, EPOCHS = 60_000, 16, 4


def arrays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Random images and labels, the same for both sides."""
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
    """784 - 128 - 10."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(inputs["image"]))
        return {"logits": keras.layers.Dense(10)(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["logits"], from_logits=True)
        return {"cross_entropy": loss}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["logits"])}


class Benchmark(Scenario):
    """Our side."""

    data: Data = Images()
    model: Model = MLP()
    trainer: Trainer = Trainer(epochs=EPOCHS)


def ours() -> list[float]:
    """Seconds of each epoch of our trainer."""
    return [row["seconds"] for row in train(Benchmark()).history]


def plain() -> list[float]:
    """Seconds of each epoch of plain Keras."""
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
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            seconds.append(time.perf_counter())

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seconds[-1] = time.perf_counter() - seconds[-1]

    network.fit(dataset, epochs=EPOCHS, verbose=0, callbacks=[Clock()])
    return seconds


def measure(side: str) -> list[float]:
    """Runs one side in a new process; its epochs without the first."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, __file__, "--side", side], env=environment, stdout=-1, stderr=-3, check=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds[1:]


def main() -> None:
    """Prints the epochs of each round, the medians and their ratio."""
    if sys.argv[1:2] == ["--side"]:
        print(json.dumps({"ours": ours, "plain": plain}[sys.argv[2]]()))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(__doc__.split("\n\n")[0])
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    ratios = []
    for number in range(1, rounds + 1):
        now = {side: measure(side) for side in times}
        for side, seconds in now.items():
            times[side] += seconds
        ratios.append(statistics.median(now["ours"]) / statistics.median(now["plain"]))
        shown = "   ".join(f"{side} {' '.join(f'{s:.2f}' for s in seconds)} s" for side, seconds in now.items())
        print(f"round {number}: {shown}   ratio {ratios[-1]:.2f}", flush=True)
    medians = {side: statistics.median(seconds) for side, seconds in times.items()}
    print(f"median epoch: plain {medians['plain']:.2f} s, ours {medians['ours']:.2f} s")
    print(f"ratio ours / plain: median of the rounds {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
