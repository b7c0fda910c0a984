"""Images in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like.data.sources.by_index import ByIndex
from tfaip_like.data.sources.files import Texts
from tfaip_like.errors import UsageError
from tfaip_like.sample import Sample

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_image(file: str | Path, color: Literal["L", "RGB"] = "L") -> npt.NDArray[np.uint8]:
    """The pixels of an image: (height, width) for grey `L`, (height, width, 3) for `RGB`.

    Raises:
        UsageError: when there is no such file, or it is no image; it names the file.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UsageError("reading images needs Pillow; pip install 'tfaip_like[images]'") from None
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(color))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such image") from None
    except Exception as error:  # Pillow raises whatever the format's decoder does
        raise UsageError(f"{file}: cannot be read as an image: {error}") from error


class ImageFolder(ByIndex[Sample]):
    """The images in a folder with a folder for each class: input `image`, target `label`, meta `file`.

    Classes are numbered in the order of their names; see `classes`.

    Args:
        folder: holds the folders of the classes, in which the images lie at any depth.
        color: `L` for grey, `RGB` for colour.
    """

    def __init__(self, folder: Path, color: Literal["L", "RGB"] = "RGB"):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        self.color: Literal["L", "RGB"] = color
        self.classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        """Names of the classes."""
        files = [
            (str(file), label)
            for label, name in enumerate(self.classes)
            for file in sorted((folder / name).rglob("*"))
            if file.suffix.lower() in IMAGE_SUFFIXES
        ]
        if not files:
            raise UsageError(f"{folder}: has no folders with images in them")
        self.files = Texts(file for file, _ in files)
        self.labels = np.array([label for _, label in files], np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def at(self, index: int) -> Sample:
        """The image at an index, read now."""
        image: Any = read_image(self.files[index], self.color)
        return Sample({"image": image}, {"label": self.labels[index]}, meta={"file": self.files[index]})

    def describe(self, index: int) -> str:
        """Which file a sample is."""
        return self.files[index]
