"""Classifiers and autoencoders for small images, each in several architectures.

train-scenario scenarios.network_zoo --model Classifier --model.architecture chransynth --trainer.output_dir runs/zoo
train-scenario scenarios.network_zoo --model Autoencoder --model.architecture classical --model.code 8
train-scenario scenarios.network_zoo --data.files a.npz --data.val_files b.npz --data.size 28 --data.classes 10
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, Tensors, UsageError, keras, ops
from tfaip_like.data import Arrays, Source, TableSource, TrainLoaderSettings, ValLoaderSettings, find_files
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Image, Summary

from .architectures import AUTOENCODERS, CLASSIFIERS
from .draw import SHAPES, draw_shapes


class ShapeImages(Data):
    """Small grayscale images with labels."""

    files: list[str] = []
    """Training files (.npz; quote globs) with arrays image (n, size, size), in [0, 1] or uint8, and label (n,). By
    default, images of shapes are generated."""

    val_files: list[str] = []
    """Validation files; without any there is no validation, except for generated images."""

    size: int = 16
    """Width and height of the images, in pixels."""

    classes: int = len(SHAPES)
    """Number of classes; labels are 0 to classes - 1."""

    noise: float = 0.1
    """Standard deviation of the pixel noise of generated images."""

    samples: int = 8000
    """Number of generated training images."""

    val_samples: int = 2000
    """Number of generated validation images."""

    seed: int = 1
    """Seed of generated images; independent of --trainer.random_seed, so that all runs get the same images."""

    targets = {"label": Spec((), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"image": Spec((self.size, self.size))}

    def source(self, mode: Mode) -> ArraySource | None:
        if self.files:
            return self._files(mode)
        random = np.random.default_rng([self.seed, mode is Mode.TRAIN])
        count = self.samples if mode is Mode.TRAIN else self.val_samples
        images, labels = draw_shapes(count, self.size, self.noise, random)
        return ArraySource({"image": images}, {"label": labels})

    def _files(self, mode: Mode) -> ArraySource | None:
        group = "files" if mode is Mode.TRAIN else "val_files"
        files = find_files(getattr(self, group), f"--data.{group}")
        if not files:
            return None
        table = TableSource(files, {"image": "image"}, {"label": "label"})
        images, labels = table.inputs["image"], table.targets["label"]
        if not np.isin(labels, range(self.classes)).all():
            raise UsageError(f"--data.{group}: labels must be from 0 to {self.classes - 1}; set --data.classes")
        if images.dtype != np.uint8:
            return table
        return ArraySource({"image": images / np.float32(255)}, {"label": np.array(labels)})

    def check(self) -> None:
        super().check()
        self.require(bool(self.files) or not self.val_files, "val_files", "requires --data.files")
        self.require(self.size >= 8, "size", "must be at least 8")
        self.require(self.classes >= 2, "classes", "must be at least 2")
        enough = bool(self.files) or self.classes >= len(SHAPES)
        self.require(enough, "classes", f"must be at least {len(SHAPES)}, the number of generated shapes")
        self.require(self.noise >= 0, "noise", "must not be negative")
        self.require(min(self.samples, self.val_samples) >= 1, "samples", "and val_samples must be at least 1")
        self.require(self.seed >= 0, "seed", "must not be negative")


class ZooModel(Model, abc.ABC):
    """Base class of the networks."""

    units: int = 128
    """Base number of units, from which each architecture derives the units of its layers."""

    def check(self) -> None:
        self.require(self.units >= 1, "units", "must be at least 1")


class Classifier(ZooModel):
    """Image classifier."""

    architecture: Literal["classical", "deep", "convolutional", "clu_one", "chransynth"] = "convolutional"
    """classical: one dense layer; deep: four; convolutional: two convolutions and a dense layer; clu_one: soft cluster
    assignments; chransynth: fixed random filters and a dense layer."""

    classes: int | None = None
    """Number of classes; set from --data.classes."""

    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        hidden = CLASSIFIERS[self.architecture](inputs["image"], self.units)
        probabilities = keras.layers.Dense(self.classes, activation="softmax", name="classify")(hidden)
        return {"probabilities": probabilities, "class": ops.argmax(probabilities, axis=-1)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["probabilities"])
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["probabilities"])}

    def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Mapping[str, Summary]:
        wrong = inputs["image"][outputs["class"] != targets["label"]]
        return {"mistakes": Image.grid(wrong[:25])}


class Autoencoder(ZooModel):
    """Autoencoder of images."""

    architecture: Literal["linear", "classical", "deep", "convolutional"] = "classical"
    """Layers of encoder and decoder. linear: none, as in a principal component analysis; classical: one dense layer;
    deep: several; convolutional: convolutions."""

    code: int = 8
    """Size of the code."""

    input_noise: float = 0.0
    """Standard deviation of noise added to inputs in training (denoising); 0 adds none."""

    def build(self, inputs: Tensors) -> Tensors:
        image = inputs["image"]
        encode, decode = AUTOENCODERS[self.architecture]
        noisy = keras.layers.GaussianNoise(self.input_noise)(image) if self.input_noise else image
        code = keras.layers.Dense(self.code, name="code")(encode(noisy, self.units))
        return {"code": code, "reconstruction": decode(code, self.units, image.shape[1:])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": ops.mean((inputs["image"] - outputs["reconstruction"]) ** 2, axis=(1, 2))}

    def auxiliary_models(self, trained: keras.Model) -> Mapping[str, keras.Model]:
        return {"encoder": keras.Model(trained.inputs, {"code": trained.output["code"]})}

    def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Mapping[str, Summary]:
        pairs = zip(inputs["image"][:12], outputs["reconstruction"][:12], strict=True)
        return {"before_and_after": Image.grid([picture for pair in pairs for picture in pair])}

    def check(self) -> None:
        super().check()
        self.require(self.code >= 1, "code", "must be at least 1")
        self.require(self.input_noise >= 0, "input_noise", "must not be negative")


class NetworkZoo(Scenario):
    """Classifiers and autoencoders of images."""

    batch_flags: ClassVar[tuple[str, ...]] = ("model", "model.architecture")

    data: Data = ShapeImages()
    model: Model = Classifier()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=64)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=500)
    # XLA makes convolutions twenty times slower on a CPU.
    trainer: Trainer = Trainer(epochs=15, jit_compile=False)
    learning_rate: Schedule = CosineDecay(lr=3e-3)

    def adapt(self, train: Source | None, folder: Path) -> Self:
        if not (isinstance(self.model, Classifier) and isinstance(self.data, ShapeImages)):
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, classes=self.data.classes))
