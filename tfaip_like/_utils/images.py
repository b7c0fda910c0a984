"""Images as pixel arrays: conversion of values, image grids, confusion matrices, and PNG files."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""RGB values from 0 to 255, of shape (height, width, 3)."""

BACKGROUND = (90, 110, 150)
"""RGB colour that does not occur in greyscale images."""


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


DIGIT_GLYPHS = (
    "111 010 111 111 101 111 111 111 111 111",
    "101 110 001 001 101 100 100 001 101 101",
    "101 010 111 011 111 111 111 010 111 111",
    "101 010 100 001 001 001 101 010 101 001",
    "111 111 111 111 001 111 111 010 111 111",
)
"""Digits 0 to 9 in 3 x 5 pixels, one row of all digits per string."""


def draw_confusion_matrix(counts: npt.NDArray[np.int64]) -> Pixels:
    """Draw a confusion matrix; shades show the share of a row, and small matrices show the counts.

    The diagonal (correct predictions) is blue, other cells are orange.

    Args:
        counts: number of samples by true class (rows) and predicted class (columns).
    """
    size, right, wrong = len(counts), np.array((0, 92, 160)), np.array((200, 70, 0))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = np.where(np.eye(size, dtype=bool)[:, :, None], right, wrong)
    cells: Pixels = np.rint(255 + share[:, :, None] * (colours - 255)).astype(np.uint8)
    has_numbers = size <= 40
    widest = max((len(str(count)) for count in counts.ravel().tolist()), default=1)
    side = max(11, 4 * widest + 5) if has_numbers else max(1, 1200 // size)
    image: Pixels = cells.repeat(side, axis=0).repeat(side, axis=1)
    for (row, column), count in np.ndenumerate(counts):
        if has_numbers and count:
            number = _draw_number(int(count))
            top, left = row * side + (side - 5) // 2, column * side + (side - number.shape[1]) // 2
            ink = 255 if share[row, column] > 0.5 else 0
            image[top : top + 5, left : left + number.shape[1]][number] = ink
    scale = max(1, min(4, 900 // len(image)))
    enlarged: Pixels = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return enlarged


def _draw_number(number: int) -> npt.NDArray[np.bool_]:
    """Return a mask of the pixels of a number, of height 5."""
    rows = ["0".join(line.split()[int(digit)] for digit in str(number)) for line in DIGIT_GLYPHS]
    return np.array([[dot == "1" for dot in row] for row in rows])


def encode_png(image: Pixels) -> bytes:
    """Encode an image as a PNG file (https://www.w3.org/TR/png-3/) with 8 bits per channel and no filter."""
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # the first byte of each row is the filter type, 0
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def read_png_size(file: bytes) -> tuple[int, int]:
    """Return the width and height of a PNG file.

    Raises:
        ValueError: if it is not a PNG file.
    """
    if file[:8] != b"\x89PNG\r\n\x1a\n" or len(file) < 24:
        raise ValueError("not a PNG file")
    width, height = struct.unpack(">II", file[16:24])
    return width, height
