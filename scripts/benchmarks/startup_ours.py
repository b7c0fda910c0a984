"""Side of `startup.py` for tfaip_like."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from startup import BATCH, EPOCHS, arrays, logits

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, Tensors, keras, train
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.settings import Trainer

times: list[float] = []
"""Time at the end of each step."""


class Images(Data):
    """Random images."""

    inputs = {"image": Spec((28, 28))}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> ArraySource | None:
        if mode is not Mode.TRAIN:
            return None
        images, labels = arrays()
        return ArraySource({"image": images}, {"label": labels})


class Network(Model):
    """Network of the benchmark."""

    kind: str
    """Which one."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"logits": logits(self.kind, inputs["image"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["logits"], from_logits=True)
        return {"cross_entropy": loss}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["logits"])}


class Clock(Callback):
    """Clock of the steps."""

    every: str = "1steps"

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        if not times:
            times.append(time.time())


class Benchmark(Scenario):
    """Scenario of the benchmark."""

    data: Data = Images()
    model: Model = Network(kind="small")
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=BATCH)


def first_step(kind: str) -> float:
    """Train; return the time at the end of the first step."""
    with TemporaryDirectory() as folder:
        trainer = Trainer(epochs=EPOCHS, output_dir=Path(folder, "run"))
        train(Benchmark(model=Network(kind=kind), trainer=trainer, callbacks=[Clock()]))
    return times[0]
