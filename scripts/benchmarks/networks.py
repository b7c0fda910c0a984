"""Benchmark of the trainer against a bare compiled loop and plain Keras, for several kinds of networks.

All sides train the same Keras network with Adam on the same random arrays in batches of the same size. The bare loop
is what remains without a framework: a compiled function that computes the loss, its gradients and the update for a
stack of batches (for lengths that vary, of one batch, compiled for each length), which lie in memory in order before
the clock starts. Plain Keras is `fit` on a ready `tf.data` set (arrays in memory, shuffle, batch, prefetch). Our side
does all that a run does by default: it shuffles, checks each step, and records the norm of the gradients. Each side
runs in a separate process, the sides in turn; the first epoch of a process, which compiles, is not counted.

    wide         784 - 1024 - 1024 - 10 units, batches of 64
    cnn          two convolutions of 32 filters on 28x28 pixels, batches of 64 (on a CPU without XLA on all sides)
    lstm         64 units, 100 steps of 8 features, batches of 32
    transformer  2 layers of 4 heads, 64 units, 64 steps, batches of 32
    variable     the LSTM behind a mask, lengths 50 to 150, batches of 32 padded to their longest sample

    python scripts/benchmarks/networks.py [ROUNDS]
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from interleaved import measure_epoch_seconds, medians

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras, train
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.settings import Trainer

EPOCHS = 4
CLASSES = 10
STEPS_PER_CALL = 16
SIZES = {
    "wide": (16_000, 64),
    "cnn": (8_000, 64),
    "lstm": (3_200, 32),
    "transformer": (3_200, 32),
    "variable": (6_400, 32),
}
"""Samples and batch size by network."""


def build_network(kind: str) -> keras.Model:
    """Return the network, whose outputs are logits."""
    layers = keras.layers
    if kind == "wide":
        inputs = keras.Input((28, 28))
        x = layers.Flatten()(inputs)
        for _ in range(2):
            x = layers.Dense(1024, activation="relu")(x)
    elif kind == "cnn":
        inputs = keras.Input((28, 28))
        x = layers.Reshape((28, 28, 1))(inputs)
        for _ in range(2):
            x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
        x = layers.Flatten()(x)
    elif kind in ("lstm", "variable"):
        inputs = keras.Input((100 if kind == "lstm" else None, 8))
        x = layers.Masking()(inputs) if kind == "variable" else inputs
        x = layers.LSTM(64)(x)
    else:
        inputs = keras.Input((64, 64))
        x = inputs
        for _ in range(2):
            x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x))
            x = layers.LayerNormalization()(x + layers.Dense(64)(layers.Dense(128, activation="gelu")(x)))
        x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def samples(kind: str) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return inputs, a list of arrays if their lengths vary, and labels."""
    random = np.random.default_rng(0)
    count = SIZES[kind][0]
    labels = random.integers(0, CLASSES, count).astype("int32")
    shapes = {"wide": (28, 28), "cnn": (28, 28), "lstm": (100, 8), "transformer": (64, 64)}
    if kind == "variable":
        return [random.random((length, 8), dtype="float32") for length in random.integers(50, 151, count)], labels
    return random.random((count, *shapes[kind]), dtype="float32"), labels


class Numbers(Data):
    """Random arrays."""

    kind: str = "wide"
    """Kind of the network."""

    targets = {"label": Spec((), "int32")}

    @property
    def inputs(self) -> dict[str, Spec]:  # type: ignore[override]
        return {"x": Spec(tuple(build_network(self.kind).input_shape[1:]))}

    def source(self, mode: Mode) -> Any:
        if mode is not Mode.TRAIN:
            return None
        inputs, labels = samples(self.kind)
        if isinstance(inputs, list):
            return [Sample({"x": x}, {"label": label}) for x, label in zip(inputs, labels, strict=True)]
        return ArraySource({"x": inputs}, {"label": labels})


class Network(Model):
    """The network under test."""

    kind: str = "wide"
    """Kind of the network."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"logits": build_network(self.kind)(inputs["x"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["logits"], from_logits=True)
        return {"cross_entropy": loss}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["logits"])}


class Benchmark(Scenario):
    """Scenario of the benchmark."""

    data: Data = Numbers()
    model: Model = Network()


def ours(kind: str) -> list[float]:
    """Return the seconds of each epoch of our trainer."""
    scenario = Benchmark(
        data=Numbers(kind=kind),
        model=Network(kind=kind),
        trainer=Trainer(epochs=EPOCHS),
        train=TrainLoaderSettings(batch_size=SIZES[kind][1]),
    )
    return [row["seconds"] for row in train(scenario).history]


def plain(kind: str) -> list[float]:
    """Return the seconds of each epoch of plain Keras."""
    import tensorflow as tf

    inputs, labels = samples(kind)
    count, size = SIZES[kind]
    network = build_network(kind)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, metrics=["accuracy"])
    if kind == "variable":
        signature = (tf.TensorSpec((None, 8)), tf.TensorSpec((), "int32"))
        dataset = tf.data.Dataset.from_generator(
            lambda: zip(inputs, labels, strict=True), output_signature=signature
        ).cache()
        dataset = dataset.shuffle(count).padded_batch(size, drop_remainder=True)
    else:
        dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(count).batch(size, drop_remainder=True)
    return measure_epoch_seconds(network, dataset.prefetch(4), EPOCHS)


def bare(kind: str) -> list[float]:
    """Return the seconds of each epoch of a bare loop on TensorFlow."""
    import tensorflow as tf

    network = build_network(kind)
    optimizer = keras.optimizers.Adam()
    optimizer.build(network.trainable_variables)
    loss_sum, correct = tf.Variable(0.0), tf.Variable(0.0)

    def step(inputs: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            logits = network(inputs, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        loss_sum.assign_add(loss)
        correct.assign_add(tf.reduce_sum(tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), labels), tf.float32)))

    is_compiled = kind != "cnn"

    @tf.function(jit_compile=is_compiled)
    def run(inputs: Any, labels: Any) -> None:
        def body(index: Any) -> Any:
            step(inputs[index], labels[index])
            return (index + 1,)

        tf.while_loop(lambda index: index < len(labels), body, (0,), parallel_iterations=1)

    executions = list(stacks(kind))
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for inputs, labels in executions:
            run(inputs, labels)
        loss_sum.numpy()
        seconds.append(time.perf_counter() - start)
    return seconds


def stacks(kind: str) -> Iterator[tuple[Any, Any]]:
    """Yield stacks of batches as tensors, in random order."""
    import tensorflow as tf

    inputs, labels = samples(kind)
    count, size = SIZES[kind]
    per_stack = size if kind == "variable" else size * STEPS_PER_CALL
    order = np.random.default_rng(0).permutation(count)[: count // per_stack * per_stack]
    for rows in order.reshape(-1, per_stack):
        chosen = pad([inputs[row] for row in rows]) if kind == "variable" else inputs[rows]
        yield tf.constant(chosen.reshape(-1, size, *chosen.shape[1:])), tf.constant(labels[rows].reshape(-1, size))


def pad(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the arrays, padded with zeros to the longest."""
    padded = np.zeros((len(arrays), max(map(len, arrays)), arrays[0].shape[1]), "float32")
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def main() -> None:
    """Print the epoch times of each round, and the ratios of the medians."""
    functions: dict[str, Callable[[str], list[float]]] = {"bare": bare, "ours": ours, "plain": plain}
    sides = {
        f"{side} {kind}": functools.partial(function, kind) for kind in SIZES for side, function in functions.items()
    }
    seconds = medians(__doc__, sides)
    for kind in SIZES:
        own, bare_loop, keras_fit = (seconds[f"{side} {kind}"] for side in ("ours", "bare", "plain"))
        print(f"{kind:12} ours {own:.2f} s, of bare {own / bare_loop:.2f}, of plain Keras {own / keras_fit:.2f}")


if __name__ == "__main__":
    main()
