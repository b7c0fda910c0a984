"""Pictures as arrays of pixels: values to grey, many in a grid, a table of counts, and a PNG file without an image
library."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Height x width x 3, red, green, blue from 0 to 255."""

BACKGROUND = (90, 110, 150)
"""A colour that is in no grey picture."""


def to_rgb(array: npt.NDArray[Any], low: float = 0.0, high: float = 1.0) -> Pixels:
    """Values as pixels: `low` is black, `high` is white, what is outside is cut off, NaN is black.

    Args:
        array: height x width, or with 1, 3 or 4 channels at the end (of which the fourth is left out).
    """
    stretched = (np.nan_to_num(array.astype(np.float64)) - low) / (high - low)
    grey_or_colour = np.rint(255 * np.clip(stretched, 0, 1)).astype(np.uint8)
    if grey_or_colour.ndim == 2:
        grey_or_colour = grey_or_colour[:, :, None]
    return np.broadcast_to(grey_or_colour[:, :, :3], (*grey_or_colour.shape[:2], 3))


def make_image_grid(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures side by side, in rows that make about a square; small ones are enlarged."""
    if not pictures:
        return np.full((8, 8, 3), BACKGROUND, np.uint8)
    tallest, widest = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    gap = max(1, min(tallest, widest) // 8)
    height, width = tallest + gap, widest + gap
    columns = max(1, round(math.sqrt(len(pictures) * height / width)))
    rows = math.ceil(len(pictures) / columns)
    whole = np.full((rows * height + gap, columns * width + gap, 3), BACKGROUND, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = gap + number // columns * height, gap + number % columns * width
        whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    scale = max(1, min(8, 1200 // whole.shape[1]))
    return whole.repeat(scale, axis=0).repeat(scale, axis=1)


DIGIT_GLYPHS = (
    "111 010 111 111 101 111 111 111 111 111",
    "101 110 001 001 101 100 100 001 101 101",
    "101 010 111 011 111 111 111 010 111 111",
    "101 010 100 001 001 001 101 010 101 001",
    "111 111 111 111 001 111 111 010 111 111",
)
"""0 to 9 in 3 x 5 dots."""


def draw_confusion_matrix(counts: npt.NDArray[np.int64]) -> Pixels:
    """A square of counts, the darker the more of their row they are, with their numbers where there is room.

    The diagonal, what is as it should be, is blue, all else is orange.
    """
    size, right, wrong = len(counts), np.array((0, 92, 160)), np.array((200, 70, 0))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = np.where(np.eye(size, dtype=bool)[:, :, None], right, wrong)
    cells: Pixels = np.rint(255 + share[:, :, None] * (colours - 255)).astype(np.uint8)
    has_numbers = size <= 40
    widest = max((len(str(count)) for count in counts.ravel().tolist()), default=1)
    side = max(11, 4 * widest + 5) if has_numbers else max(1, 1200 // size)
    picture: Pixels = cells.repeat(side, axis=0).repeat(side, axis=1)
    for (row, column), count in np.ndenumerate(counts):
        if has_numbers and count:
            number = _draw_number(int(count))
            top, left = row * side + (side - 5) // 2, column * side + (side - number.shape[1]) // 2
            ink = 255 if share[row, column] > 0.5 else 0
            picture[top : top + 5, left : left + number.shape[1]][number] = ink
    scale = max(1, min(4, 900 // len(picture)))
    larger: Pixels = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return larger


def _draw_number(number: int) -> npt.NDArray[np.bool_]:
    """Its digits as dots."""
    rows = ["0".join(line.split()[int(digit)] for digit in str(number)) for line in DIGIT_GLYPHS]
    return np.array([[dot == "1" for dot in row] for row in rows])


def encode_png(picture: Pixels) -> bytes:
    """A PNG file (https://www.w3.org/TR/png-3/): 8 bits per channel, no filter."""
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with the number of its filter
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def read_png_size(file: bytes) -> tuple[int, int]:
    """Width and height of a PNG file.

    Raises:
        ValueError: when it is none.
    """
    if file[:8] != b"\x89PNG\r\n\x1a\n" or len(file) < 24:
        raise ValueError("not a PNG file")
    width, height = struct.unpack(">II", file[16:24])
    return width, height
