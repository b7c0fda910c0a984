"""Image reading, and data sources of image files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Sample
from tfaip_like.data._sources.file_lists import is_hidden, iter_files
from tfaip_like.data._sources.indexed import IndexedSequence, PackedStrings

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

Color: TypeAlias = Literal["L", "LA", "RGB", "RGBA"]
"""Color mode: grayscale or RGB, without or with an alpha channel."""

CHANNELS: dict[str, int] = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags."""
_SIGNED = 2


def read_image(file: str | Path, color: Color = "L", size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image: shape (height, width) for `L`, (height, width, channels) otherwise.

    The EXIF orientation is applied. Without an alpha channel in `color`, transparent pixels are composited over
    white. 16-bit images are scaled to 8 bits. Of an animation or a multi-page file the first image is read.

    Args:
        file: path or URL of a file in any format that Pillow reads.
        color: `L` for grayscale, `RGB` for color, `LA` and `RGBA` to add an alpha channel.
        size: height and width in pixels to resize the image to; None keeps the size.

    Raises:
        UsageError: if the file does not exist, is not an image, or its value range is unknown (floats, 32-bit
            integers).
    """
    with _open_image(file) as image:
        return _to_pixels(image, color, size)


def decode_image(data: bytes, color: Color, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image file in memory; see `read_image`, except that errors are those of Pillow."""
    from PIL import Image

    with Image.open(BytesIO(data)) as image:
        return _to_pixels(image, color, size)


def _to_pixels(image: Image, color: Color, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    picture = _convert_color(_apply_orientation(image), color)
    if size is not None:
        from PIL.Image import Resampling

        picture = picture.resize(size[::-1], Resampling.LANCZOS)
    return np.asarray(picture)


def image_size(file: str | Path) -> tuple[int, int]:
    """Return width and height of an image in pixels, after its EXIF orientation, without decoding the pixels.

    Args:
        file: file in any format that Pillow reads.

    Raises:
        UsageError: if the file does not exist or is not an image.
    """
    with _open_image(file) as image:
        is_on_its_side = image.format != "TIFF" and image.getexif().get(0x0112) in (
            5,
            6,
            7,
            8,
        )  # Pillow rotates TIFF itself
        width, height = image.size
        return (height, width) if is_on_its_side else (width, height)


@contextmanager
def _open_image(file: str | Path) -> Iterator[Image]:
    """Open an image; convert any error in the block to a `UsageError` that names the file."""
    from PIL import Image

    try:
        with Image.open(to_path(file)) as image:
            yield image
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{file}: no such image") from None
    except Exception as error:  # decoders raise exceptions of many types
        raise UsageError(f"{file}: cannot be read as an image: {error}") from error


def _apply_orientation(image: Image) -> Image:
    from PIL import ImageOps

    if image.format == "PNG":
        _scale_transparent_color(image)
    image.load()  # applies the orientation of a TIFF
    ImageOps.exif_transpose(image, in_place=True)  # a copy would lack the tags of the file
    return image


def _scale_transparent_color(image: Image) -> None:
    """Scale the transparent color of a PNG to the bit depth of the decoded pixels, which Pillow does not."""
    key, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    raw_mode = tiles[0][3] if tiles else ""
    if raw_mode in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * 255 // (3 if raw_mode == "L;2" else 15)
    elif raw_mode == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _convert_color(image: Image, color: Color) -> Image:
    """Convert an image to 8 bits per channel and a color mode."""
    from PIL import Image as Images

    transparent = image.info.get("transparency")
    if _SIGNED in getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ()):
        raise ValueError("it has signed integer values of unknown range; convert it to unsigned integers")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image, transparent = _convert_to_8_bits(image, transparent)
    elif image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floats"
        raise ValueError(f"it has {what} of unknown range; convert it to 8 or 16 bits")
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
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
    """Convert a grayscale image of 16 bits (12 in some TIFF) to 8 bits, with an alpha channel if it has one.

    Pillow scales the values of a PGM file to 16 bits, independent of its maximum value.
    """
    from PIL import Image as Images

    values = np.asarray(image).astype(np.float64)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    gray = np.rint(values * (255 / (2 ** min(bits, 16) - 1))).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white, which Pillow inverts only for 8 bits
        gray = 255 - gray
    if transparent is None:
        return Images.fromarray(gray), None
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Images.merge("LA", [Images.fromarray(gray), Images.fromarray(alpha)]), None


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the subdirectories that contain images.

    Hidden directories, and those of operating systems (`__MACOSX`), are skipped.

    Args:
        folder: directory with one subdirectory per class.

    Raises:
        UsageError: if the directory does not exist.
    """
    return list(_images_by_class(folder))


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory")
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    images = {entry.name: [str(file) for file in iter_files(entry, IMAGE_SUFFIXES)] for entry in folders}
    return {name: files for name, files in images.items() if files}


def check_color(color: str) -> None:
    """Raise `UsageError` for an unknown color mode."""
    if color not in CHANNELS:
        raise UsageError(f"unknown color mode {color!r}; expected one of {truncate_list(list(CHANNELS))}")


class ImageFiles(IndexedSequence[Sample]):
    """Data source of image files, with input `image` and meta `file`.

    Args:
        files: paths of the images.
        color: `L` for grayscale, `RGB` for color, `LA` and `RGBA` to add an alpha channel.
        size: height and width in pixels to resize all images to; None keeps their sizes.

    Raises:
        UsageError: if the color mode is unknown.

    Example:
        >>> source = ImageFiles(["a.png", "b.png"], "L", size=(32, 32))
        >>> len(source), source.describe(1)
        (2, 'b.png')
    """

    is_thread_safe = True

    def __init__(self, files: Iterable[str | Path], color: Color = "RGB", size: tuple[int, int] | None = None):
        check_color(color)
        self.files = PackedStrings(map(str, files))
        self.color: Color = color
        self.size = size

    @classmethod
    def from_folder(cls, folder: Path, color: Color = "RGB", size: tuple[int, int] | None = None) -> ImageFiles:
        """Return the images below a directory, at any depth; hidden files are skipped.

        Args:
            folder: directory to search.
            color: see `ImageFiles`.
            size: see `ImageFiles`.

        Raises:
            UsageError: if the directory does not exist or contains no image.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such directory")
        images = ImageFiles(iter_files(folder, IMAGE_SUFFIXES), color, size)
        if not len(images):
            raise UsageError(f"{folder}: contains no images")
        return images

    def __len__(self) -> int:
        return len(self.files)

    def at(self, index: int) -> Sample:
        """Read the image at an index."""
        image: Any = read_image(self.files[index], self.color, self.size)
        return Sample({"image": image}, meta={"file": self.files[index]})

    def describe(self, index: int) -> str:
        """Return the file of a sample."""
        return self.files[index]


class ImageFolder(ImageFiles):
    """Data source of a directory with one subdirectory per class: input `image`, target `label`, meta `file`.

    Hidden files and directories, and subdirectories without images, are skipped.

    Args:
        folder: directory with one subdirectory per class, each with images at any depth.
        color: `L` for grayscale, `RGB` for color, `LA` and `RGBA` to add an alpha channel.
        classes: class names in the order of their labels; by default the sorted names of the subdirectories. Pass the
            classes of the training set for all other directories, so that the labels agree.
        size: height and width in pixels to resize all images to; None keeps their sizes.

    Raises:
        UsageError: if the directory does not exist or contains no images, or a subdirectory is not in `classes`.

    Example::

        train = ImageFolder(Path("flowers/train"), size=(64, 64))
        val = ImageFolder(Path("flowers/val"), size=(64, 64), classes=train.classes)
    """

    def __init__(
        self,
        folder: Path,
        color: Color = "RGB",
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        self.folder = folder
        images = _images_by_class(folder)
        if not images:
            raise UsageError(f"{folder}: no subdirectory contains images")
        self.classes = list(classes or images)
        """Class names in the order of their labels."""
        if unknown := [name for name in images if name not in self.classes]:
            raise UsageError(
                f"{folder}: {truncate_list(unknown)} not in the classes ({truncate_list(self.classes)}); add the "
                f"missing {'class' if len(unknown) == 1 else 'classes'}, or remove the directory"
            )
        if outside := sum(1 for _ in _iter_images(folder)):
            logger.warning("%s: ignoring %s outside the class directories", folder, pluralize(outside, "image"))
        super().__init__((file for files in images.values() for file in files), color, size)
        labels = [self.classes.index(name) for name in images]
        self.labels = np.repeat(labels, [len(files) for files in images.values()]).astype(np.int32)

    def at(self, index: int) -> Sample:
        """Read the image at an index."""
        return replace(super().at(index), targets={"label": self.labels[index]})


def check_same_classes(train: object, other: object, group: str) -> None:
    """Raise `UsageError` if two image folders have different labels for their classes.

    Args:
        train: training source; ignored unless it is an `ImageFolder`.
        other: validation source, likewise.
        group: flag group of the validation source, such as `val`, for the message.
    """
    if isinstance(train, ImageFolder) and isinstance(other, ImageFolder) and train.classes != other.classes:
        raise UsageError(
            f"--{group}: {other.folder} has the classes {truncate_list(other.classes)}, but {train.folder} has "
            f"{truncate_list(train.classes)}; pass the training classes: "
            f"ImageFolder({str(other.folder)!r}, classes=...)"
        )


def _iter_images(folder: Path) -> Iterator[Path]:
    """Yield the images directly in a directory."""
    for entry in folder.iterdir():
        if entry.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(entry.name) and entry.is_file():
            yield entry
