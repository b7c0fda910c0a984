"""Architectures by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like import keras, ops

Encoder = Callable[[Any, int], Any]
"""From images (batch, height, width) and the number of units to hidden values."""

Decoder = Callable[[Any, int, tuple[int, int]], Any]
"""From codes (batch, code), the number of units and (height, width) to images (batch, height, width)."""


def classical(picture: Any, units: int) -> Any:
    """Build one dense layer."""
    return keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(picture))


def deep(picture: Any, units: int) -> Any:
    """Build four dense layers, each with half the units of the previous one."""
    hidden = keras.layers.Flatten()(picture)
    for halvings in range(4):
        hidden = keras.layers.Dense(max(8, units >> halvings), activation="relu")(hidden)
    return hidden


def convolutional(picture: Any, units: int) -> Any:
    """Build two convolutions with pooling, and a dense layer."""
    hidden = _with_channel(picture)
    for filters in (units // 8, units // 4):
        hidden = keras.layers.Conv2D(max(1, filters), 3, padding="same", activation="relu")(hidden)
        hidden = keras.layers.MaxPooling2D(2, padding="same")(hidden)
    return classical(hidden, units)


def clu_one(picture: Any, units: int) -> Any:
    """Build one layer of soft cluster assignments."""
    return keras.layers.Dense(units, activation="softmax")(keras.layers.Flatten()(picture))


def chransynth(picture: Any, units: int) -> Any:
    """Build fixed random convolution filters and a trainable dense layer."""
    start = keras.initializers.HeNormal(seed=1)
    filters = keras.layers.Conv2D(max(1, units // 4), 5, activation="relu", kernel_initializer=start, trainable=False)
    return classical(keras.layers.MaxPooling2D(3, padding="same")(filters(_with_channel(picture))), units)


CLASSIFIERS: Mapping[str, Encoder] = {
    build.__name__: build for build in (classical, deep, convolutional, clu_one, chransynth)
}


def _with_channel(picture: Any) -> Any:
    return keras.layers.Reshape((*picture.shape[1:], 1))(picture)


def _flat(picture: Any, units: int) -> Any:
    return keras.layers.Flatten()(picture)


def _dense(hidden: Any, shape: tuple[int, int], activation: str) -> Any:
    return keras.layers.Reshape(shape)(keras.layers.Dense(math.prod(shape), activation=activation)(hidden))


def _from_linear(code: Any, units: int, shape: tuple[int, int]) -> Any:
    return _dense(code, shape, "linear")


def _from_classical(code: Any, units: int, shape: tuple[int, int]) -> Any:
    return _dense(keras.layers.Dense(units, activation="relu")(code), shape, "sigmoid")


def _from_deep(code: Any, units: int, shape: tuple[int, int]) -> Any:
    for halvings in (2, 1, 0):
        code = keras.layers.Dense(max(8, units >> halvings), activation="relu")(code)
    return _dense(code, shape, "sigmoid")


def _from_convolutional(code: Any, units: int, shape: tuple[int, int]) -> Any:
    height, width, channels = -(-shape[0] // 2), -(-shape[1] // 2), max(1, units // 8)
    hidden = keras.layers.Dense(units, activation="relu")(code)
    hidden = keras.layers.Dense(height * width * channels, activation="relu")(hidden)
    hidden = keras.layers.Reshape((height, width, channels))(hidden)
    pixels = keras.layers.Conv2D(4, 3, padding="same", activation="sigmoid")(hidden)
    # Four channels are 2x2 pixels: much cheaper than a convolution at full resolution.
    squares = ops.transpose(ops.reshape(pixels, (-1, height, width, 2, 2)), (0, 1, 3, 2, 4))
    return ops.reshape(squares, (-1, 2 * height, 2 * width))[:, : shape[0], : shape[1]]


AUTOENCODERS: Mapping[str, tuple[Encoder, Decoder]] = {
    "linear": (_flat, _from_linear),
    "classical": (classical, _from_classical),
    "deep": (deep, _from_deep),
    "convolutional": (convolutional, _from_convolutional),
}
