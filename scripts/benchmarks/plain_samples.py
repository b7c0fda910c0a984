"""Benchmark of cheap samples: our pipeline and tf.data, feeding the same compiled model.

All sides train the network of `small_mlp.py` (784 - 128 - 10, Adam) on the same 60,000 images of 28x28 random
pixels in batches of 16, shuffled, 50 steps per execution, compiled with XLA:

    ours          an `ArraySource` and our trainer
    tf.data       our trainer's compiled steps, fed by
                  `tf.data.Dataset.from_tensor_slices(arrays).shuffle(60000).batch(16).batch(50).prefetch(AUTOTUNE)`
    tf.data, fit  the same without the second batch, into `keras.Model.fit` of our training model as Keras runs it

Each side runs in a separate process, in turn; the first epoch of a process, which compiles, is not counted.
What is compared is the time of an epoch from its beginning to its end, without validation.

    python scripts/benchmarks/plain_samples.py [ROUNDS]
"""

from __future__ import annotations

import dataclasses
from typing import Any

from interleaved import measure_epoch_seconds, medians
from small_mlp import BATCH, EPOCHS, SAMPLES, Benchmark, arrays

from tfaip_like import keras, train

STEPS_PER_EXECUTION = 50


def scenario() -> Benchmark:
    """Return the network and the arrays; all variants have the same number of steps per execution."""
    trainer = dataclasses.replace(Benchmark().trainer, steps_per_execution=STEPS_PER_EXECUTION)
    return dataclasses.replace(Benchmark(), trainer=trainer)


def ours() -> list[float]:
    """Return the seconds of each epoch with our pipeline."""
    return [row["seconds"] for row in train(scenario()).history]


def batches() -> Any:
    """Return the shuffled batches of tf.data."""
    import tensorflow as tf

    images, labels = arrays()
    slices = tf.data.Dataset.from_tensor_slices({"inputs": {"image": images}, "targets": {"label": labels}})
    return slices.shuffle(SAMPLES).batch(BATCH, drop_remainder=True)


def tf_data() -> list[float]:
    """Return the seconds of each epoch with tf.data in place of our pipeline."""
    import tensorflow as tf

    from tfaip_like._training import components as parts
    from tfaip_like._training.feed import TrainingFeed

    class Fed(TrainingFeed):
        def _make_tf_dataset(self, *args: Any) -> Any:
            return batches().batch(STEPS_PER_EXECUTION, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    parts.TrainingFeed = Fed  # type: ignore[misc]
    return [row["seconds"] for row in train(scenario()).history]


def tf_data_into_fit() -> list[float]:
    """Return the seconds of each epoch of plain `fit` on our training model."""
    import tensorflow as tf

    from tfaip_like import Mode
    from tfaip_like._training.steps.training_model import TrainingModel
    from tfaip_like.data import TrainLoaderSettings
    from tfaip_like.data._loader.loader_factory import open_training
    from tfaip_like.modeling._network import build_networks

    asked = scenario()
    opened = open_training(asked.data, asked.data.source(Mode.TRAIN), TrainLoaderSettings(batch_size=BATCH), None, 1)
    model = TrainingModel(build_networks(asked.model, asked.data).training, asked.model, opened.batch(0))
    model.compile(keras.optimizers.Adam(), jit_compile=True, steps_per_execution=STEPS_PER_EXECUTION)
    return measure_epoch_seconds(model, batches().prefetch(tf.data.AUTOTUNE), EPOCHS)


SIDES = {"ours": ours, "tf.data": tf_data, "tf.data, fit": tf_data_into_fit}


def main() -> None:
    """Print the epoch time of each variant, and their ratio."""
    seconds = medians(__doc__, SIDES)
    for side, median in seconds.items():
        print(
            f"{side:12} median {median:.2f} s an epoch, {SAMPLES / median:.0f} samples/s; "
            f"ours takes {seconds['ours'] / median:.2f} of it"
        )


if __name__ == "__main__":
    main()
