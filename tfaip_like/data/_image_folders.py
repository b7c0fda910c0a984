"""Data of image classifiers: folders with a folder of images for each class."""

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
    """Adds the name of the most probable class to the meta of a prediction, as `class`."""

    modes = (Mode.PREDICT,)

    classes: list[str]
    """Names of the classes in the order of their numbers."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        found = [output for output in sample.outputs.values() if np.shape(output) == (len(self.classes),)]
        if len(found) != 1:
            return sample
        return dataclasses.replace(sample, meta={**sample.meta, "class": self.classes[int(np.argmax(found[0]))]})


class ImageFolderData(Data):
    """Images in folders with a folder for each class: input `image`, target `label`.

    The names of the classes are those of the folders to train on. A training stores them in its parameters and in its
    exports, so that labels mean the same in validation, load-and-validate and prediction.
    """

    folder: Path
    """Folder to train on, with a folder of images for each class."""

    val_folder: Path | None = None
    """Folder to validate on, likewise; none for no validation."""

    predict_folder: Path | None = None
    """Folder with images to predict, at any depth."""

    classes: list[str] = []
    """Names of the classes in the order of their labels; by default the folders in `folder`, sorted."""

    size: tuple[int, int] = (128, 128)
    """Height and width that all images are scaled to, in pixels."""

    color: Color = "RGB"
    """L for grey, RGB for colour, LA and RGBA for these with an alpha channel."""

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
                raise UsageError("--data.predict_folder is required: a folder with images")
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
        self.require(min(self.size) >= 1, "size", "must be 1 pixel or more")
        self.require(len(set(self.classes)) == len(self.classes), "classes", "must differ")
