"""Benchmark of datasets of other libraries: through our trainer, and `keras.Model.fit` with the same object.

Both train the same network with Adam in batches of 32, with their defaults otherwise. The networks:

    mlp      784 - 128 - 10 on 20,000 rows of 784 numbers
    image    a convolution of 8 filters with stride 4 and a dense layer on 4,000 images of 64x64x3 bytes

The datasets:

    tfdata        tf.data: arrays in memory, shuffle, batch, prefetch
    torch         DataLoader of a TensorDataset, shuffled
    torch-stream  DataLoader of an IterableDataset
    huggingface   Dataset in memory; `fit` reads it by `to_tf_dataset`, as its documentation says

Each side runs in a separate process, the two in turn; the first epoch of a process, which compiles, is not
counted. What is compared is the time from the beginning of an epoch to its end, without validation. A library
that is not installed is left out.

    python scripts/benchmarks/foreign_datasets.py [ROUNDS]
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np
from interleaved import measure_epoch_seconds, medians

from tfaip_like import Data, Mode, Model, Scenario, Spec, Tensors, keras, train
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.settings import Trainer

BATCH, EPOCHS = 32, 3
SHAPES: dict[str, tuple[int, ...]] = {"mlp": (784,), "image": (64, 64, 3)}
SAMPLES = {"mlp": 20_000, "image": 4_000}
LIBRARIES = {"tfdata": "tensorflow", "torch": "torch", "torch-stream": "torch", "huggingface": "datasets"}


def make_arrays(network: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return random inputs and labels."""
    random, samples = np.random.default_rng(0), SAMPLES[network]
    labels = random.integers(0, 10, samples).astype("int32")
    if network == "mlp":
        return random.random((samples, *SHAPES[network]), dtype="float32"), labels
    return random.integers(0, 255, (samples, *SHAPES[network])).astype("uint8"), labels


def make_dataset(library: str, network: str) -> Any:
    """Return a dataset of `(x, y)`, or of mappings, as its users write it."""
    x, y = make_arrays(network)
    if library == "tfdata":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1000, seed=1).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    if library == "huggingface":
        import datasets

        return datasets.Dataset.from_dict({"x": x, "y": y}).with_format("numpy")
    import torch
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset

    items = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    if library == "torch":
        return DataLoader(items, batch_size=BATCH, shuffle=True)

    class Stream(IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Any:
            return iter(items)

    return DataLoader(Stream(), batch_size=BATCH)


class Read(Data):
    """Data of the benchmark."""

    library: str = "tfdata"
    """Library of the dataset."""

    network: str = "mlp"
    """Network that it is for."""

    @property
    def inputs(self) -> dict[str, Spec]:
        return {"x": Spec(SHAPES[self.network], "float32" if self.network == "mlp" else "uint8")}

    targets = {"y": Spec((), "int32")}

    def source(self, mode: Mode) -> Any:
        return make_dataset(self.library, self.network) if mode is Mode.TRAIN else None


def apply_layers(x: Any) -> Any:
    """Return the logits of the inputs: a dense network for rows, a convolution for images."""
    if len(x.shape) == 2:
        x = keras.layers.Dense(128, activation="relu")(x)
    else:
        x = keras.layers.Rescaling(1 / 255)(x)
        x = keras.layers.Flatten()(keras.layers.Conv2D(8, 8, strides=4, activation="relu")(x))
    return keras.layers.Dense(10)(x)


class Classifier(Model):
    """Network of the benchmark."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"logits": apply_layers(inputs["x"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["logits"], from_logits=True)
        return {"entropy": loss}


class Benchmark(Scenario):
    """Scenario of the benchmark."""

    data: Data = Read()
    model: Model = Classifier()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=BATCH)


def ours(library: str, network: str) -> list[float]:
    """Return the seconds of each epoch of our trainer."""
    trainer = Trainer(epochs=EPOCHS, samples_per_epoch=SAMPLES[network])
    scenario = Benchmark(data=Read(library=library, network=network), trainer=trainer)
    return [row["seconds"] for row in train(scenario).history]


def fit(library: str, network: str) -> list[float]:
    """Return the seconds of each epoch of `fit`."""
    x = keras.Input(SHAPES[network], dtype="float32" if network == "mlp" else "uint8")
    model = keras.Model(x, apply_layers(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = make_dataset(library, network)
    if library == "huggingface":
        dataset = dataset.to_tf_dataset(columns="x", label_cols="y", batch_size=BATCH, shuffle=True)
    return measure_epoch_seconds(model, dataset, EPOCHS)


def main() -> None:
    """Print the epoch times of each round, the medians and their ratios."""
    libraries = [library for library, module in LIBRARIES.items() if importlib.util.find_spec(module)]
    pairs = [(library, network) for network in SHAPES for library in libraries]
    sides = {f"{side.__name__}:{a}:{b}": partial(side, a, b) for a, b in pairs for side in (fit, ours)}
    seconds = medians(__doc__, sides)
    for library, network in pairs:
        keras_s, ours_s = (seconds[f"{side}:{library}:{network}"] for side in ("fit", "ours"))
        ratio = f"ratio ours / fit {ours_s / keras_s:.2f}"
        print(f"{network:6} {library:13} fit {keras_s:5.2f} s, ours {ours_s:5.2f} s; {ratio}")


if __name__ == "__main__":
    main()
