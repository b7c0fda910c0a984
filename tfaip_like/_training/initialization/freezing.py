"""Freezing: layers that keep their weights while the others are trained."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import keras

from tfaip_like._keras_ext.paths import layer_paths
from tfaip_like._utils.errors import UsageError, truncate_list

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FreezeReport:
    """What is not trained."""

    layers: tuple[str, ...]
    """Paths of the layers that were asked for; those within them are frozen, too."""

    frozen: int
    """Numbers in their weights."""

    total: int
    """Numbers in all weights of the network."""

    def __str__(self) -> str:
        return f"frozen: {truncate_list(self.layers)} ({self.frozen:,} of {self.total:,} weights)"


def freeze(network: keras.Model, pattern: str) -> FreezeReport:
    """Takes layers, with all layers in them, out of the training of a network.

    Their statistics stay as well: a frozen BatchNormalization computes with those that it has. Dropout in them
    goes on, since it learns nothing.

    Args:
        pattern: a regular expression that matches the whole path of each layer to freeze (`encoder/dense_1`).

    Raises:
        UsageError: when it matches no layer with weights, or nothing is left to train.
    """
    flag = f"--trainer.no_train_scope {pattern}"
    layers = {path: layer for path, layer in layer_paths(network).items() if layer.weights}
    matched = [path for path in layers if re.fullmatch(pattern, path)]
    if not matched:
        near = difflib.get_close_matches(pattern, layers, n=5, cutoff=0.0)
        raise UsageError(f"{flag}: no layer with weights has such a path; nearest are {truncate_list(near)}")
    for path in matched:
        layers[path].trainable = False
    if not network.trainable_weights:
        raise UsageError(f"{flag}: nothing is left to train; it matches {truncate_list(matched)}")
    report = FreezeReport(
        layers=tuple(matched),
        frozen=_count_parameters(weight for path in matched for weight in layers[path].weights),
        total=_count_parameters(network.weights),
    )
    logger.info("%s", report)
    return report


def _count_parameters(weights: Iterable[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in {id(weight): weight for weight in weights}.values())
