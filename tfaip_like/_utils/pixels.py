"""Images as pixel arrays: conversion of values, image grids, confusion matrices, and PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # imported on first use, which --help can do without
    from PIL.Image import Image as PillowImage

Pixels = npt.NDArray[np.uint8]
"""RGB values from 0 to 255, of shape (height, width, 3)."""

BACKGROUND = (90, 110, 150)
"""RGB colour that does not occur in greyscale images."""
MAX_NUMBERED_CLASSES = 40
"""Maximum size of a confusion matrix whose counts are drawn."""


def to_rgb(array: npt.NDArray[Any], low: float = 0.0, high: float = 1.0) -> Pixels:
    """Convert values to RGB pixels; NaN becomes black.

    Args:
        array: values of shape (height, width) or (height, width, channels) with 1, 3 or 4 channels; the fourth (alpha)
            is dropped.
        low: value of black; smaller values are clipped.
        high: value of white; larger values are clipped.
    """
    scaled = (np.nan_to_num(array.astype(np.float64)) - low) / (high - low)
    pixels = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.broadcast_to(pixels[:, :, :3], (*pixels.shape[:2], 3))


def make_image_grid(images: Sequence[Pixels]) -> Pixels:
    """Arrange images in a roughly square grid; small ones are enlarged."""
    if not images:
        return np.full((8, 8, 3), BACKGROUND, np.uint8)
    tallest, widest = (max(image.shape[axis] for image in images) for axis in (0, 1))
    gap = max(1, min(tallest, widest) // 8)
    height, width = tallest + gap, widest + gap
    columns = max(1, round(math.sqrt(len(images) * height / width)))
    rows = math.ceil(len(images) / columns)
    grid = np.full((rows * height + gap, columns * width + gap, 3), BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        top, left = gap + index // columns * height, gap + index % columns * width
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    scale = max(1, min(8, 1200 // grid.shape[1]))
    return grid.repeat(scale, axis=0).repeat(scale, axis=1)


def draw_confusion_matrix(counts: npt.NDArray[np.int64]) -> Pixels:
    """Draw a confusion matrix; shades show the share of a row, and small matrices show the counts.

    The diagonal (correct predictions) is blue, other cells are orange.

    Args:
        counts: number of samples by true class (rows) and predicted class (columns).
    """
    from PIL import Image

    size, right, wrong = len(counts), np.array((0, 92, 160)), np.array((200, 70, 0))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = np.where(np.eye(size, dtype=bool)[:, :, None], right, wrong)
    cells = Image.fromarray(np.rint(255 + share[:, :, None] * (colours - 255)).astype(np.uint8))
    if size <= MAX_NUMBERED_CLASSES:
        return np.asarray(_draw_numbers(cells, counts, share))
    side = max(1, 1200 // size)
    return np.asarray(cells.resize((side * size, side * size), Image.Resampling.NEAREST))


def _draw_numbers(cells: PillowImage, counts: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> PillowImage:
    """Enlarge an image of one pixel per cell, and write the counts into the cells."""
    from PIL import Image, ImageDraw, ImageFont

    size = len(counts)
    font_size = min(24, max(10, 225 // size))
    font = ImageFont.load_default(font_size)
    widest = max(font.getlength(str(count)) for count in counts.ravel().tolist())
    side = max(2 * font_size, math.ceil(widest) + font_size // 2)
    image = cells.resize((side * size, side * size), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            centre = (column * side + side / 2, row * side + side / 2)
            draw.text(centre, str(count), "white" if share[row, column] > 0.5 else "black", font, anchor="mm")
    return image


def encode_png(image: Pixels) -> bytes:
    """Encode an image as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def read_png_size(file: bytes) -> tuple[int, int]:
    """Return the width and height of a PNG file.

    Raises:
        ValueError: if it is not a PNG file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
            return image.size
    except UnidentifiedImageError as error:
        raise ValueError("not a PNG file") from error
