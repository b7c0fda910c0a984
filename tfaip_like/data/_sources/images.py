"""Images in files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.file_lists import is_hidden, iter_files
from tfaip_like.data._sources.indexed import IndexedSequence, PackedStrings

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

Color: TypeAlias = Literal["L", "LA", "RGB", "RGBA"]
"""Grey or colour, without or with an alpha channel."""

CHANNELS: dict[str, int] = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF files."""
_SIGNED = 2


def read_image(file: str | Path, color: Color = "L", size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image: (height, width) for grey `L`, (height, width, channels) otherwise.

    EXIF orientations are applied. Without an alpha channel in `color`, transparent pixels are composited over
    white. 16 bits are scaled to 8. Of an animation or a file of several pages the first image is read.

    Args:
        file: any that Pillow can open.
        color: `L` for grey, `RGB` for colour, `LA` and `RGBA` for these with an alpha channel.
        size: height and width that the image is scaled to.

    Raises:
        UsageError: when there is no such file, it is no image, or its values have no known black and white (floats,
            32-bit integers); it names the file.
    """
    with _open_image(file) as image:
        picture = _convert_color(_apply_orientation(image), color)
        if size is not None:
            from PIL.Image import Resampling

            picture = picture.resize(size[::-1], Resampling.LANCZOS)
        return np.asarray(picture)


def image_size(file: str | Path) -> tuple[int, int]:
    """Return the width and height of an image as `read_image` turns it, without reading its pixels.

    Raises:
        UsageError: when there is no such file, or it is no image; it names the file.
    """
    with _open_image(file) as image:
        is_on_its_side = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)  # Pillow turns TIFF
        width, height = image.size
        return (height, width) if is_on_its_side else (width, height)


@contextmanager
def _open_image(file: str | Path) -> Iterator[Image]:
    """Open an image; all that goes wrong with it in the block is a `UsageError` with its name."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UsageError("reading images needs Pillow; pip install 'tfaip_like[images]'") from None
    try:
        with Image.open(file) as image:
            yield image
    except FileNotFoundError:
        raise UsageError(f"{file}: no such image") from None
    except Exception as error:  # Pillow raises whatever the format's decoder does
        raise UsageError(f"{file}: cannot be read as an image: {error}") from error


def _apply_orientation(image: Image) -> Image:
    from PIL import ImageOps

    if image.format == "PNG":
        _scale_transparent_color(image)
    image.load()  # which turns a TIFF already
    ImageOps.exif_transpose(image, in_place=True)  # a copy would lack the tags of the file
    return image


def _scale_transparent_color(image: Image) -> None:
    """Give the transparent colour of a PNG as many bits as its pixels will have; Pillow leaves it as it is stored."""
    key, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    raw_mode = tiles[0][3] if tiles else ""
    if raw_mode in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * 255 // (3 if raw_mode == "L;2" else 15)
    elif raw_mode == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _convert_color(image: Image, color: Color) -> Image:
    """Return an image of 8 bits for each channel."""
    from PIL import Image as Images

    transparent = image.info.get("transparency")
    if _SIGNED in getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ()):
        raise ValueError(
            "it holds signed integers, of which black and white are not known; convert it to unsigned ones"
        )
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image, transparent = _convert_to_8_bits(image, transparent)
    elif image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floats"
        raise ValueError(f"it holds {what}, of which black and white are not known; convert it to 8 or 16 bits")
    if image.mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    elif image.mode == "LAB":
        image = image.convert("RGB")
    if image.mode not in ("LA", "PA", "RGBA") and transparent is None:
        return image.convert(color)
    image = image.convert("RGBA")
    if color in ("LA", "RGBA"):
        return image.convert(color)
    white = Images.new("RGBA", image.size, "white")
    return Images.alpha_composite(white, image).convert("RGB").convert(color)


def _convert_to_8_bits(image: Image, transparent: Any) -> tuple[Image, Any]:
    """Return a grey image of 16 bits (or of 12, in a TIFF) with 8 bits, and an alpha channel if it has one.

    Pillow scales the values of a PGM file to 16 bits, whatever its largest value is.
    """
    from PIL import Image as Images

    values = np.asarray(image).astype(np.float64)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    grey = np.rint(values * (255 / (2 ** min(bits, 16) - 1))).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is 0, which Pillow heeds for 8 bits only
        grey = 255 - grey
    if transparent is None:
        return Images.fromarray(grey), None
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Images.merge("LA", [Images.fromarray(grey), Images.fromarray(alpha)]), None


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that have images in them, sorted.

    Hidden folders, and those of operating systems (`__MACOSX`), are left out.

    Raises:
        UsageError: when there is no such folder.
    """
    return list(_images_by_class(folder))


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    images = {entry.name: [str(file) for file in iter_files(entry, IMAGE_SUFFIXES)] for entry in folders}
    return {name: files for name, files in images.items() if files}


class ImageFiles(IndexedSequence[Sample]):
    """Images of any files: input `image`, meta `file`.

    Args:
        files: of the images.
        color: `L` for grey, `RGB` for colour, `LA` and `RGBA` for these with an alpha channel.
        size: height and width that all images are scaled to.
    """

    def __init__(self, files: Iterable[str | Path], color: Color = "RGB", size: tuple[int, int] | None = None):
        if color not in CHANNELS:
            raise UsageError(f"images have no color {color!r}; it must be one of {truncate_list(list(CHANNELS))}")
        self.files = PackedStrings(map(str, files))
        self.color: Color = color
        self.size = size

    @classmethod
    def from_folder(cls, folder: Path, color: Color = "RGB", size: tuple[int, int] | None = None) -> ImageFiles:
        """Return the images at any depth of a folder, without hidden ones.

        Raises:
            UsageError: when there is no such folder, or no image in it.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        found = ImageFiles(iter_files(folder, IMAGE_SUFFIXES), color, size)
        if not len(found):
            raise UsageError(f"{folder}: has no images in it")
        return found

    def __len__(self) -> int:
        return len(self.files)

    def at(self, index: int) -> Sample:
        """Read the image at an index."""
        image: Any = read_image(self.files[index], self.color, self.size)
        return Sample({"image": image}, meta={"file": self.files[index]})

    def describe(self, index: int) -> str:
        """Which file a sample is."""
        return self.files[index]


class ImageFolder(ImageFiles):
    """The images in a folder with a folder for each class: input `image`, target `label`, meta `file`.

    Hidden files and folders, and folders without images, are left out.

    Args:
        folder: holds the folders of the classes, with the images at any depth.
        color: `L` for grey, `RGB` for colour, `LA` and `RGBA` for these with an alpha channel.
        classes: names of the classes in the order of their labels; by default those of `folder`, sorted. Give those of
            the training to any other folder, so that labels mean the same.
        size: height and width that all images are scaled to.

    Raises:
        UsageError: for a folder that is not there or has no images, and for one of a class that is none of `classes`.
    """

    def __init__(
        self,
        folder: Path,
        color: Color = "RGB",
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        self.folder = folder
        found = _images_by_class(folder)
        if not found:
            raise UsageError(f"{folder}: has no folders with images in them")
        self.classes = list(classes or found)
        """Names of the classes."""
        if unknown := [name for name in found if name not in self.classes]:
            raise UsageError(
                f"{folder}: {truncate_list(unknown)} {'is' if len(unknown) == 1 else 'are'} none of the classes "
                f"{truncate_list(self.classes)}; name all classes, or remove the folder"
            )
        if outside := sum(1 for _ in _iter_images(folder)):
            logger.warning("%s: %s in no folder of a class; not used", folder, pluralize(outside, "image"))
        super().__init__((file for files in found.values() for file in files), color, size)
        labels = [self.classes.index(name) for name in found]
        self.labels = np.repeat(labels, [len(files) for files in found.values()]).astype(np.int32)

    def at(self, index: int) -> Sample:
        """Read the image at an index."""
        return replace(super().at(index), targets={"label": self.labels[index]})


def check_same_classes(train: object, other: object, group: str) -> None:
    """Raise `UsageError` if two image folders number their classes differently.

    Args:
        train: any source; of image folders, those to train on.
        other: likewise, to validate on.
        group: of flags, to begin a message with.
    """
    if isinstance(train, ImageFolder) and isinstance(other, ImageFolder) and train.classes != other.classes:
        raise UsageError(
            f"--{group}: {other.folder} numbers its classes as {truncate_list(other.classes)}, but {train.folder} as "
            f"{truncate_list(train.classes)}; write ImageFolder({str(other.folder)!r}, classes=...) with "
            "those of the training"
        )


def _iter_images(folder: Path) -> Iterator[Path]:
    """Yield the images directly in a folder."""
    for entry in folder.iterdir():
        if entry.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(entry.name) and entry.is_file():
            yield entry
