"""Generator of small images of shapes with random position, size and rotation, and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHAPES = ["disc", "ring", "square", "triangle", "cross", "bar"]


def draw_shapes(count: int, size: int, noise: float, random: np.random.Generator) -> tuple[Array, Array]:
    """Return images of shape (count, size, size) with values in [0, 1], and their labels of shape (count,).

    Args:
        count: number of images.
        size: width and height in pixels.
        noise: standard deviation of the noise of each pixel.
        random: source of randomness.
    """
    labels = random.integers(0, len(SHAPES), count)
    middles = random.uniform(-0.25, 0.25, (2, count, 1, 1))
    turns = random.uniform(0, 2 * np.pi, (count, 1, 1))
    scales = random.uniform(0.4, 0.65, (count, 1, 1))
    down, right = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    y, x = (down - middles[0]) / scales, (right - middles[1]) / scales
    x, y = np.cos(turns) * x + np.sin(turns) * y, np.cos(turns) * y - np.sin(turns) * x
    distances = np.choose(labels[:, None, None], _signed_distances(x, y)) * scales
    ink = random.uniform(0.6, 1, (count, 1, 1)) * np.clip(0.5 - distances * size / 2, 0, 1)
    pictures = np.clip(ink + random.normal(0, noise, ink.shape), 0, 1)
    return pictures.astype(np.float32), labels.astype(np.int32)


def _signed_distances(x: Array, y: Array) -> list[Array]:
    """Return the approximate signed distance of each point to each shape, negative inside."""
    radius = np.hypot(x, y)
    triangle = np.maximum.reduce([np.cos(a) * x + np.sin(a) * y for a in 2 * np.pi / 3 * np.arange(3)]) - 0.5
    wide, high = (np.maximum(np.abs(a) - 1, np.abs(b) - 0.25) for a, b in ((x, y), (y, x)))
    return [
        radius - 0.9,
        np.abs(radius - 0.75) - 0.2,
        np.maximum(np.abs(x), np.abs(y)) - 0.8,
        triangle,
        np.minimum(wide, high),
        wide,
    ]
