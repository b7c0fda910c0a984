"""Benchmark of prediction: the pipeline and the plain network.

The network of the tutorial (784 - 256 - 128 - 10) on 100,000 random images of 28x28, in batches of 64, both sides
in one process, in turn; a first round, in which both are traced, is not counted.

    keras      `keras.Model.predict` on ready arrays
    predictor  our `Predictor` on the same arrays: batches, network, a sample for each row
    command    what predict-scenario does: the same, and an .npz file written

    call       the bare network called with one image (`network(image, training=False)`)
    one        `Predictor.one` with one sample: pipeline, network, post-processors

    python scripts/benchmarks/prediction.py [ROUNDS]
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tfaip_like import Data, Mode, Model, Sample, Scenario, Spec, Tensors, keras, load_predictor
from tfaip_like._export.writing import write_export
from tfaip_like.data import PredictLoaderSettings
from tfaip_like.data._writers import open_writer
from tfaip_like.modeling._network import build_networks

SAMPLES, BATCH, CALLS = 100_000, 64, 300


class Images(Data):
    """Grayscale images."""

    inputs = {"image": Spec((28, 28))}

    def source(self, mode: Mode) -> None:
        """Return None: there is no training."""


class Classifier(Model):
    """Network with two hidden layers."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Flatten()(inputs["image"])
        for units in (256, 128):
            hidden = keras.layers.Dense(units, activation="relu")(hidden)
        return {"probabilities": keras.layers.Dense(10, activation="softmax")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {}


class Bare(Scenario):
    """Scenario of an untrained network."""

    data: Data = Images()
    model: Model = Classifier()


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    """Print the times of both variants, and their ratios."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    print((__doc__ or "").partition("\n    python ")[0])
    logging.getLogger("tfaip_like").setLevel(logging.WARNING)
    scenario = Bare()
    networks = build_networks(scenario.model, scenario.data)
    network = networks.prediction
    images = np.random.default_rng(0).random((SAMPLES, 28, 28), dtype="float32")
    sample = Sample(inputs={"image": images[0]})
    with TemporaryDirectory() as folder:
        write_export(Path(folder, "export"), networks, scenario, {})
        predictor = load_predictor(Path(folder, "export"))
        settings = PredictLoaderSettings(batch_size=BATCH)

        def command() -> None:
            batches = predictor.make_data_loader({"image": images}, settings)
            with closing(batches), open_writer(Path(folder, "out.npz"), None, "--output") as write:
                for predicted in predictor.iter_predictions(batches):
                    write(predicted)

        sides: dict[str, Callable[[], object]] = {
            "keras": lambda: network.predict(images, batch_size=BATCH, verbose=0),
            "predictor": lambda: sum(1 for _ in predictor({"image": images}, settings)),
            "command": command,
            "call": lambda: [np.asarray(network(images[:1], training=False)["probabilities"]) for _ in range(CALLS)],
            "one": lambda: [predictor.one(sample) for _ in range(CALLS)],
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            for side, function in sides.items():
                taken = seconds(function)
                if number:
                    times[side].append(taken)
    medians = {side: statistics.median(values) for side, values in times.items()}
    for side in ("keras", "predictor", "command"):
        speed, ratio = SAMPLES / medians[side], medians["keras"] / medians[side]
        print(f"{side:9} {medians[side]:.2f} s, {speed:.0f} samples/s; {ratio:.2f} times keras")
    for side in ("call", "one"):
        ratio = medians[side] / medians["call"]
        print(f"{side:9} {1000 * medians[side] / CALLS:.2f} ms a sample; {ratio:.2f} of the call")


if __name__ == "__main__":
    main()
