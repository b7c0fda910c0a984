"""Benchmark of the overhead of checkpoints after each epoch, averaged weights, and callbacks with loggers.

Two networks train with Adam on random images of 28x28 in batches of 64, in epochs of some seconds: a wide one of 1.9
million weights (784 - 1024 - 1024 - 10), each of which is used once for a sample, and one of two convolutions,
whose weights are used hundreds of times. Each side runs in a separate process, the sides in turn; the first epoch of
a process, which compiles, is not counted. What is compared is the time from the end of an epoch to the end of the
next, with the export of the best model on each side:

    plain        no checkpoint but the last
    checkpoints  --trainer.checkpoint_every epoch (the default): weights, optimizer and all else, of the wide one 23 MB
    averages     --trainer.calc_ema 0.999, no checkpoint but the last
    callbacks    a callback after each 100 steps, a Keras callback with a hook of each epoch, and two loggers, the
                 server of one of which takes a second to answer; no checkpoint but the last

    python scripts/benchmarks/trainer_costs.py [ROUNDS]
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from interleaved import medians

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras, train
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.loggers import Logger
from tfaip_like.settings import Trainer

EPOCHS = 4
SAMPLES = 64_000
NO_CHECKPOINTS = "1000epochs"
SIDES: dict[str, dict[str, Any]] = {
    "plain": {"checkpoint_every": NO_CHECKPOINTS},
    "checkpoints": {"checkpoint_every": "epoch"},
    "averages": {"checkpoint_every": NO_CHECKPOINTS, "calc_ema": 0.999},
    "callbacks": {"checkpoint_every": NO_CHECKPOINTS},
}
NETWORKS = ("wide", "convolutions")


class Images(Data):
    """Random images."""

    inputs = {"image": Spec((28, 28))}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        if mode is Mode.EVALUATE:
            return None
        random = np.random.default_rng(0)
        images = random.random((SAMPLES, 28, 28), dtype="float32")
        return ArraySource({"image": images}, {"label": random.integers(0, 10, SAMPLES)})


class Wide(Model):
    """Network with two wide layers."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Flatten()(inputs["image"])
        for _ in range(2):
            hidden = keras.layers.Dense(1024, activation="relu")(hidden)
        return {"logits": keras.layers.Dense(10)(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["logits"], from_logits=True)
        return {"cross_entropy": loss}


class Convolutions(Wide):
    """Network with two convolutions."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Reshape((28, 28, 1))(inputs["image"])
        for _ in range(2):
            hidden = keras.layers.Conv2D(32, 3, activation="relu", padding="same")(hidden)
        return {"logits": keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(hidden))}


class StepCounter(Callback):
    """Callback that is called after each 100 steps."""

    every: str = "100steps"

    def on_train_begin(self, run: RunContext) -> None:
        self.calls = 0

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        self.calls += 1


class Lines(Logger):
    """Logger that takes some time to log a line."""

    delay_s: float = 0.0
    """Seconds that the server takes to answer."""

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: float) -> None:
        time.sleep(self.delay_s)


class Costs(Scenario):
    """Scenario whose epochs take some seconds."""

    data: Data = Images()
    model: Model = Wide()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=64)


class EpochEndHandler(logging.Handler):
    """Callback that records the end of each epoch."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.times: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch ") and ": loss" in record.getMessage():
            self.times.append(time.perf_counter())


def measure_epochs(network: str, side: str) -> list[float]:
    """Return the seconds of each epoch, overhead included."""
    ends = EpochEndHandler()
    package = logging.getLogger("tfaip_like")
    package.setLevel(logging.INFO)
    package.addHandler(ends)
    begin = time.perf_counter()
    with TemporaryDirectory() as folder:
        samples = SAMPLES if network == "wide" else SAMPLES // 4
        trainer = Trainer(
            epochs=EPOCHS, random_seed=1, samples_per_epoch=samples, output_dir=Path(folder, "run"), **SIDES[side]
        )
        scenario = Costs(model=Wide() if network == "wide" else Convolutions(), trainer=trainer)
        if side == "callbacks":
            keras_callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
            train(scenario, callbacks=[StepCounter(), keras_callback], loggers=[Lines(), Lines(delay_s=1.0)])
        else:
            train(scenario)
    return [end - before for before, end in itertools.pairwise([begin, *ends.times])]


def main() -> None:
    """Print the epoch time of each variant, and the ratios."""
    sides = {f"{network}, {side}": (network, side) for network in NETWORKS for side in SIDES}
    seconds = medians(__doc__, {name: functools.partial(measure_epochs, *sides[name]) for name in sides})
    for name, median in seconds.items():
        cost = 100 * (median / seconds[f"{sides[name][0]}, plain"] - 1)
        print(f"{name:25} median {median:.2f} s an epoch, {cost:+.1f} % of plain")


if __name__ == "__main__":
    main()
