"""Data of image classifiers: directories with one subdirectory of images per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._data import Data, Source
from tfaip_like.data._processors import Processor
from tfaip_like.data._sample import Mode, Sample, Spec
from tfaip_like.data._sources.images import CHANNELS, Color, ImageFiles, ImageFolder, class_folders


class AddClassName(Processor):
    """Post-processor that adds the name of the most probable class to the meta of a prediction, as `class`.

    Example:
        >>> sample = Sample(outputs={"scores": np.array([0.2, 0.8])})
        >>> AddClassName(classes=["ant", "bee"]).process(sample, np.random.default_rng()).meta
        {'class': 'bee'}
    """

    modes = (Mode.PREDICT,)

    classes: list[str]
    """Class names in the order of their labels."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        scores = [output for output in sample.outputs.values() if np.shape(output) == (len(self.classes),)]
        if len(scores) != 1:
            return sample
        return dataclasses.replace(sample, meta={**sample.meta, "class": self.classes[int(np.argmax(scores[0]))]})


class ImageFolderData(Data):
    """Data of a directory with one subdirectory per class: input `image`, target `label`.

    The class names are those of the training subdirectories. A training stores them in its parameters and exports, so
    that the labels agree in validation, load-and-validate and prediction.

    Example:
        >>> data = ImageFolderData(folder=Path("flowers/train"), size=(64, 64))
        >>> data.inputs["image"].shape
        (64, 64, 3)
    """

    folder: Path
    """Training directory, with one subdirectory of images per class: a path or a URL."""

    val_folder: Path | None = None
    """Validation directory with the same structure; by default there is no validation."""

    predict_folder: Path | None = None
    """Directory of the images to predict, at any depth."""

    classes: list[str] = []
    """Class names in the order of their labels; by default the sorted subdirectories of `folder`."""

    size: tuple[int, int] = (128, 128)
    """Height and width in pixels that all images are resized to."""

    color: Color = "RGB"
    """Color mode: L (grayscale), RGB, or LA and RGBA with an alpha channel."""

    targets = {"label": Spec((), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        channels = CHANNELS[self.color]
        return {"image": Spec(self.size if channels == 1 else (*self.size, channels), "uint8")}

    def adapt(self) -> Self:
        return dataclasses.replace(self, classes=self._classes())

    def source(self, mode: Mode) -> Source | None:
        if mode is Mode.PREDICT:
            if self.predict_folder is None:
                raise UsageError("--data.predict_folder is required: the directory of the images to predict")
            return ImageFiles.from_folder(self.predict_folder, self.color, self.size)
        folder = self.folder if mode is Mode.TRAIN else self.val_folder
        return None if folder is None else ImageFolder(folder, self.color, self._classes(), self.size)

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        return [
            *super().post_pipeline(mode),
            *([AddClassName(classes=self._classes())] if mode is Mode.PREDICT else []),
        ]

    def _classes(self) -> list[str]:
        return self.classes or class_folders(self.folder)

    def check(self) -> None:
        super().check()
        self.require(min(self.size) >= 1, "size", "must be at least 1 pixel")
        self.require(len(set(self.classes)) == len(self.classes), "classes", "must not contain duplicates")
