"""Cheap samples: our pipeline against tf.data's own, into the same compiled model.

Both train the network of `small_mlp.py` (784 - 128 - 10, Adam) on the same 60,000 images of 28x28 random
pixels in batches of 16, shuffled, with our trainer: the same compiled steps, as many at once. Ours
reads an `ArraySource`; the other side reads
`tf.data.Dataset.from_tensor_slices(arrays).shuffle(60000).batch(16).prefetch(AUTOTUNE)`. Each side runs in
a process of its own, the two in turn; the first epoch of a process, which compiles, is not counted.
What is compared is the time of an epoch from its beginning to its end, without validation.

    python scripts/benchmarks/plain_samples.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from small_mlp import BATCH, SAMPLES, Benchmark, arrays

from tfaip_like import train


def ours() -> list[float]:
    """Seconds of each epoch with our pipeline."""
    return [row["seconds"] for row in train(Benchmark()).history]


def tf_data() -> list[float]:
    """Seconds of each epoch with tf.data in its place."""
    import tensorflow as tf

    from tfaip_like.train import training

    feed_of = training.training_feed

    def replaced(*args: Any) -> Any:
        feed = feed_of(*args)
        images, labels = arrays()
        slices = tf.data.Dataset.from_tensor_slices({"inputs": {"image": images}, "targets": {"label": labels}})
        batches = slices.shuffle(SAMPLES).batch(BATCH, drop_remainder=True)
        feed._data = batches.prefetch(tf.data.AUTOTUNE)
        return feed

    training.training_feed = replaced
    return [row["seconds"] for row in train(Benchmark()).history]


SIDES = {"tf.data": tf_data, "ours": ours}


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
            print(f"round {number + 1}: {side:8} {' '.join(f'{s:.2f}' for s in epochs)} s an epoch", flush=True)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    for side, median in medians.items():
        print(f"{side:8} median {median:.2f} s an epoch, {SAMPLES / median:.0f} samples/s")
    print(f"ratio of ours to tf.data: {medians['ours'] / medians['tf.data']:.2f} (below 1: ours is faster)")


if __name__ == "__main__":
    main()
