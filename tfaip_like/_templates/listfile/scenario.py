"""Template: classification of curves, whose files are named in list files.

train-scenario template --trainer.output_dir runs/template
train-scenario template --train.lists my_train.txt --val.lists my_val.txt
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tfaip_like import Mode, Model, Processor, Sample, Spec, Tensors, keras, ops
from tfaip_like.list_files import ListFileData, ListFileScenario, ListTrainLoaderSettings, ListValLoaderSettings

from .draw_samples import LABELS

SAMPLES = Path(__file__).parent / "samples"


class ReadCurve(Processor):
    """Reader of the file of a sample; runs in data workers."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        curve = np.load(sample.meta["file"])
        return dataclasses.replace(sample, inputs={"curve": curve[:, None]})


class Flip(Processor):
    """Augmentation that flips the sign of curves at random, in training only."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        sign = random.choice([-1.0, 1.0])
        return dataclasses.replace(sample, inputs={"curve": sign * sample.inputs["curve"]})


class TemplateData(ListFileData):
    """Curves in files; the label is the name of the directory."""

    processors: list[Processor] = [ReadCurve(), Flip()]
    """Processors of each sample, in this order: read, then augment."""

    # Files with these suffixes are samples, all others are list files.
    suffixes = (".npy",)

    # None is an axis of variable length; within a batch, shorter curves are padded at the end.
    inputs = {"curve": Spec((None, 1))}
    targets = {"label": Spec((), "int32")}

    def sample(self, file: Path) -> Sample:
        # Keep this fast: a processor reads the file. In prediction, the directory may not be a label.
        label = LABELS.index(file.parent.name) if file.parent.name in LABELS else 0
        return Sample(targets={"label": label}, meta={"file": str(file)})


class TemplateModel(Model):
    """Recurrent network over the increments of a curve."""

    units: int = 16
    """Units of the recurrent layer."""

    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        steps = ops.abs(inputs["curve"][:, 1:] - inputs["curve"][:, :-1])
        hidden = keras.layers.GRU(self.units)(steps)
        return {"probabilities": keras.layers.Dense(len(LABELS), activation="softmax")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["probabilities"])}


class Template(ListFileScenario):
    """Classification of calm and wild curves."""

    data: ListFileData = TemplateData()
    model: Model = TemplateModel()
    train: ListTrainLoaderSettings = ListTrainLoaderSettings(lists=[str(SAMPLES / "train.txt")])
    val: ListValLoaderSettings = ListValLoaderSettings(lists=[str(SAMPLES / "val.txt")])
