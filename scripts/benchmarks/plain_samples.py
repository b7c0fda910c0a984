"""Cheap samples: our pipeline against tf.data's own, into the same compiled model.

All sides train the network of `small_mlp.py` (784 - 128 - 10, Adam) on the same 60,000 images of 28x28 random
pixels in batches of 16, shuffled, 50 steps at once, compiled with XLA:

    ours          an `ArraySource` and our trainer
    tf.data       our trainer's compiled steps, fed by
                  `tf.data.Dataset.from_tensor_slices(arrays).shuffle(60000).batch(16).batch(50).prefetch(AUTOTUNE)`
    tf.data, fit  the same without the second batch, into `keras.Model.fit` of our training model as Keras runs it

Each side runs in a process of its own, in turn; the first epoch of a process, which compiles, is not counted.
What is compared is the time of an epoch from its beginning to its end, without validation.

    python scripts/benchmarks/plain_samples.py [ROUNDS]
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from small_mlp import BATCH, EPOCHS, SAMPLES, Benchmark, arrays

from tfaip_like import keras, train

AT_ONCE = 50


def scenario() -> Benchmark:
    """The network and the arrays, with as many steps at once on every side."""
    trainer = dataclasses.replace(Benchmark().trainer, steps_per_execution=AT_ONCE)
    return dataclasses.replace(Benchmark(), trainer=trainer)


def ours() -> list[float]:
    """Seconds of each epoch with our pipeline."""
    return [row["seconds"] for row in train(scenario()).history]


def batches() -> Any:
    """The shuffled batches of tf.data."""
    import tensorflow as tf

    images, labels = arrays()
    slices = tf.data.Dataset.from_tensor_slices({"inputs": {"image": images}, "targets": {"label": labels}})
    return slices.shuffle(SAMPLES).batch(BATCH, drop_remainder=True)


def tf_data() -> list[float]:
    """Seconds of each epoch with tf.data in place of our pipeline."""
    import tensorflow as tf

    from tfaip_like.train import parts
    from tfaip_like.train.feed import TrainingFeed

    class Fed(TrainingFeed):
        def _dataset(self, *args: Any) -> Any:
            stacks = batches().batch(AT_ONCE, drop_remainder=True)
            return stacks.map(lambda stack: {**stack, "steps": AT_ONCE}).prefetch(tf.data.AUTOTUNE)

    parts.TrainingFeed = Fed  # type: ignore[misc]
    return [row["seconds"] for row in train(scenario()).history]


def tf_data_into_fit() -> list[float]:
    """Seconds of each epoch of `fit` as Keras has it, on our training model."""
    import tensorflow as tf

    from tfaip_like.data import TrainData
    from tfaip_like.data.pipeline import open_training
    from tfaip_like.network import build_networks
    from tfaip_like.sample import Mode
    from tfaip_like.train.training_model import TrainingModel

    asked = scenario()
    opened = open_training(asked.data, asked.data.source(Mode.TRAIN), TrainData(batch_size=BATCH), None, 1)
    model = TrainingModel(build_networks(asked.model, asked.data).training, asked.model, opened.batch(0))
    model.compile(keras.optimizers.Adam(), jit_compile=True, steps_per_execution=AT_ONCE)
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            seconds.append(time.perf_counter())

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seconds[-1] = time.perf_counter() - seconds[-1]

    model.fit(batches().prefetch(tf.data.AUTOTUNE), epochs=EPOCHS, verbose=0, callbacks=[Clock()])
    return seconds


SIDES = {"ours": ours, "tf.data": tf_data, "tf.data, fit": tf_data_into_fit}


def main() -> None:
    """Prints the time of an epoch on each side, and their ratio."""
    if sys.argv[1:2] and sys.argv[1] in SIDES:
        print(json.dumps(SIDES[sys.argv[1]]()))
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    print((__doc__ or "").partition("\n    python ")[0])
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES:
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFAIP_LOG_LEVEL": "error"}
            command = [sys.executable, __file__, side]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            epochs = json.loads(done.stdout.splitlines()[-1])[1:]
            seconds[side] += epochs
            print(f"round {number + 1}: {side:12} {' '.join(f'{s:.2f}' for s in epochs)} s an epoch", flush=True)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    for side, median in medians.items():
        ratio = medians["ours"] / median
        print(
            f"{side:12} median {median:.2f} s an epoch, {SAMPLES / median:.0f} samples/s; ours takes {ratio:.2f} of it"
        )


if __name__ == "__main__":
    main()
