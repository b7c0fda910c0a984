"""Benchmark of the time from the start of a process to its first training step, and of the peak memory of a short run.

Both sides import what they need, make 60,000 random images of 28x28 pixels, build the same network, and train two
epochs in batches of 16. Plain Keras is `fit` on the arrays. Our side does all that a run does by default:
checks, a dry run of validation and export, and the compilation of the step. Each side runs in a separate process, the
sides in turn; the first round, which warms the file cache, is not counted.

    small    784 - 128 - 10 units
    lstm     an LSTM of 64 units over the 28 rows

    python scripts/benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

SAMPLES, BATCH, EPOCHS = 60_000, 16, 2
NETWORKS, SIDES = ("small", "lstm"), ("plain", "ours")


def arrays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images and labels."""
    random = np.random.default_rng(0)
    return random.random((SAMPLES, 28, 28), dtype="float32"), random.integers(0, 10, SAMPLES, dtype="int32")


def logits(kind: str, images: Any) -> Any:
    """Return the output of the network for its input."""
    from keras import layers

    if kind == "lstm":
        return layers.Dense(10)(layers.LSTM(64)(images))
    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(images)))


def plain(kind: str, start: float) -> float:
    """Train with `fit`; return the seconds to the end of the first step."""
    import keras

    first: list[float] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            first.append(time.time() - start)

    inputs = keras.Input((28, 28))
    network = keras.Model(inputs, logits(kind, inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    network.fit(*arrays(), batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[Clock()])
    return first[0]


def ours(kind: str, start: float) -> float:
    """Train a scenario; return the seconds to the end of the first step."""
    from startup_ours import first_step

    return first_step(kind) - start


def measure(side: str, kind: str) -> tuple[float, float]:
    """Run a side in a new process; return the seconds to its first step, and its peak memory in MB."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFAIP_LOG_LEVEL": "error"}
    command = [sys.executable, __file__, "--run", side, kind, str(time.time())]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    """Compare the sides, or run one."""
    if sys.argv[1:2] == ["--run"]:
        side, kind, start = sys.argv[2:]
        seconds = {"plain": plain, "ours": ours}[side](kind, float(start))
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))
        return
    print((__doc__ or "").partition("\n    python ")[0])
    for kind in NETWORKS:
        results: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
        for number in range(1 + (int(sys.argv[1]) if sys.argv[1:] else 3)):
            for side in SIDES:
                result = measure(side, kind)
                print(f"{kind}, round {number}: {side:6} {result[0]:.2f} s, {result[1]:.0f} MB", flush=True)
                if number:
                    results[side].append(result)
        first = {side: [statistics.median(values) for values in zip(*results[side], strict=True)] for side in SIDES}
        ratios = [ours / plain for ours, plain in zip(first["ours"], first["plain"], strict=True)]
        print(f"{kind}: ours of plain Keras: first step {ratios[0]:.2f}, peak memory {ratios[1]:.2f}\n", flush=True)


if __name__ == "__main__":
    main()
