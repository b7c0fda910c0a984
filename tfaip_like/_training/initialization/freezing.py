"""Freezing of layers (`--trainer.no_train_scope`)."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import keras

from tfaip_like._keras_ext.paths import layer_paths
from tfaip_like._utils.errors import UsageError, truncate_list

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FreezeReport:
    """Frozen layers of a network."""

    layers: tuple[str, ...]
    """Paths of the matched layers and graphs; all layers in them are frozen."""

    frozen: int
    """Number of frozen parameters."""

    total: int
    """Number of parameters of the network."""

    def __str__(self) -> str:
        return f"frozen: {truncate_list(self.layers)} ({self.frozen:,} of {self.total:,} parameters)"


def freeze(network: keras.Model, pattern: str) -> FreezeReport:
    """Freeze layers and graphs of a network, with all layers in them.

    Frozen BatchNormalization layers use their stored statistics and do not update them. Dropout stays active.

    Args:
        network: network to change.
        pattern: regular expression for the full path of each layer or graph to freeze (`encoder/conv`, `encoder`).

    Returns:
        The frozen layers.

    Raises:
        UsageError: if no layer with weights matches, or no trainable weight remains.
    """
    flag = f"--trainer.no_train_scope {pattern}"
    groups = _group_by_prefix({path: layer for path, layer in layer_paths(network).items() if layer.weights})
    matched = {path: layers for path, layers in groups.items() if re.fullmatch(pattern, path)}
    if not matched:
        closest = difflib.get_close_matches(pattern, groups, n=5, cutoff=0.0)
        raise UsageError(f"{flag}: no layer with weights matches; closest: {truncate_list(closest)}")
    frozen = [layer for layers in matched.values() for layer in layers]
    for layer in frozen:
        layer.trainable = False
    if not network.trainable_weights:
        raise UsageError(f"{flag} freezes all trainable weights (matched: {truncate_list(matched)})")
    report = FreezeReport(
        layers=tuple(matched),
        frozen=_count_parameters(weight for layer in frozen for weight in layer.weights),
        total=_count_parameters(network.weights),
    )
    logger.info("%s", report)
    return report


def _group_by_prefix(layers: Mapping[str, keras.Layer]) -> dict[str, list[keras.Layer]]:
    """Return layers by path, and all those in a layer or a graph by its path."""
    groups = defaultdict(list)
    for path, layer in layers.items():
        names = path.split("/")
        for depth in range(1, len(names) + 1):
            groups["/".join(names[:depth])].append(layer)
    return groups


def _count_parameters(weights: Iterable[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in {id(weight): weight for weight in weights}.values())
