"""Low-rank adaptation (LoRA) of the layers of a network: enabling it, and merging it for exports."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from tfaip_like._keras_ext.paths import layer_paths
from tfaip_like._utils.errors import UsageError, truncate_list

logger = logging.getLogger(__name__)


def enable_lora(
    network: keras.Model, rank: int, alpha: float | None = None, pattern: str = "", unfrozen: str | None = None
) -> None:
    """Freeze the weights of a network, and add trainable low-rank updates to its layers.

    Args:
        network: Built network.
        rank: Rank of the updates.
        alpha: Scale: updates are multiplied by alpha / rank; None for rank.
        pattern: Regular expression for the paths of the layers to adapt.
        unfrozen: Regular expression for the paths of the layers to train as a whole.

    Raises:
        UsageError: If the first pattern matches no layer that supports LoRA, or the second no layer with weights.
    """
    paths = layer_paths(network)
    whole = _match_layers("lora_unfrozen", unfrozen, {path: layer for path, layer in paths.items() if layer.weights})
    inner = {id(layer) for outer in whole.values() for layer in outer._flatten_layers()}
    supported = {
        path: layer for path, layer in paths.items() if hasattr(layer, "enable_lora") and id(layer) not in inner
    }
    adapted = _match_layers("lora_layers", pattern, supported)
    network.trainable = False
    for layer in whole.values():
        layer.trainable = True
    for layer in network._flatten_layers():
        # Layers that contain adapted ones must be trainable too, or Keras reports no trainable weight in them.
        if any(id(inner) in (adapted | whole) for inner in layer._flatten_layers()):
            layer._trainable = True
    for layer in adapted.values():
        layer.enable_lora(rank, lora_alpha=alpha)
    added = [weight for layer in adapted.values() for weight in layer.trainable_weights]
    count = sum(int(keras.ops.size(weight)) for weight in added)
    logger.info("LoRA: %d layers adapted, %s trainable parameters in them", len(adapted), f"{count:,}")


def _match_layers(field: str, pattern: str | None, layers: dict[str, keras.Layer]) -> dict[int, keras.Layer]:
    """Return the layers whose path a pattern matches by ID; none for None.

    Raises:
        UsageError: If the pattern matches none.
    """
    if pattern is None:
        return {}
    matching = {id(layer): layer for path, layer in layers.items() if re.search(pattern, path)}
    if not matching:
        raise UsageError(
            f"--model.{field} {pattern}: no suitable layer matches; available: {truncate_list(layers) or 'none'}"
        )
    return matching


@contextmanager
def merge_lora(*networks: keras.Model) -> Iterator[None]:
    """Merge the low-rank updates of networks into the weights of their layers in the block; restore them afterwards."""
    layers = {id(layer): layer for network in networks for layer in network._flatten_layers()}
    adapted = [layer for layer in layers.values() if getattr(layer, "lora_enabled", False)]
    before = [(layer, layer.lora_rank, keras.ops.copy(_base_weight(layer))) for layer in adapted]
    try:
        for layer in adapted:
            low_rank = keras.ops.matmul(*_lora_weights(layer))
            _base_weight(layer).assign(_base_weight(layer) + layer.lora_alpha / layer.lora_rank * low_rank)
            layer.lora_enabled, layer.lora_rank = False, None  # neither in the graph nor in the configuration
        yield
    finally:
        for layer, rank, value in before:
            _base_weight(layer).assign(value)
            layer.lora_enabled, layer.lora_rank = True, rank


def lora_weight_ids(network: keras.Model) -> set[int]:
    """Return the IDs of the weights that LoRA added to the layers of a network."""
    return {id(weight) for layer in network._flatten_layers() for weight in _lora_weights(layer)}


def _base_weight(layer: keras.Layer) -> keras.Variable:
    weight: keras.Variable = layer._embeddings if hasattr(layer, "lora_embeddings_a") else layer._kernel
    return weight


def _lora_weights(layer: keras.Layer) -> list[keras.Variable]:
    names = ("lora_kernel_a", "lora_kernel_b", "lora_embeddings_a", "lora_embeddings_b")
    return [getattr(layer, name) for name in names if hasattr(layer, name)]
