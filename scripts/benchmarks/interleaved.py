"""Runner of benchmark variants: alternately, each in a separate process, for several rounds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like import keras


def medians(about: str, sides: Mapping[str, Callable[[], list[float]]], rounds: int = 3) -> dict[str, float]:
    """Return the median epoch time in seconds of each variant, without the first epoch of a process, which compiles.

    The script that calls this is called again for each side, with its name.

    Args:
        about: docstring of the script, which is printed as far as its usage.
        sides: what measures the seconds of some epochs, by name.
        rounds: if the command line does not say how many.
    """
    if sys.argv[1:2] and sys.argv[1] in sides:
        print(json.dumps(sides[sys.argv[1]]()))
        sys.exit()
    print(about.partition("\n    python ")[0])
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(int(sys.argv[1]) if sys.argv[1:] else rounds):
        for side in sides:
            epochs = _run_side(side)
            seconds[side] += epochs
            print(f"round {number + 1}: {side:12} {' '.join(f'{s:.2f}' for s in epochs)} s an epoch", flush=True)
    return {side: statistics.median(values) for side, values in seconds.items()}


def _run_side(side: str) -> list[float]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFAIP_LOG_LEVEL": "error"}
    command = [sys.executable, sys.argv[0], side]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    epochs: list[float] = json.loads(done.stdout.splitlines()[-1])
    return epochs[1:]


def measure_epoch_seconds(network: keras.Model, data: Any, epochs: int) -> list[float]:
    """Train with `fit`; return the seconds of each epoch."""
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            seconds.append(time.perf_counter())

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seconds[-1] = time.perf_counter() - seconds[-1]

    network.fit(data, epochs=epochs, verbose=0, callbacks=[Clock()])
    return seconds
