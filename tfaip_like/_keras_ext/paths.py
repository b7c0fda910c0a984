"""Paths of layers and weights in a network, as a person reads them: `encoder/dense_1`, `encoder/dense_1/kernel`.

They are not Keras' `variable.path`, which is written when a weight is made and knows only what was open then.
Measured with Keras 3.15: `dense` in a functional model `encoder` within the network and a `dense` next to it both
have the weight `dense/kernel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_Named = TypeVar("_Named", keras.Layer, keras.Variable)


def layer_paths(network: keras.Model) -> dict[str, keras.Layer]:
    """Return all layers of a network, inner layers included, by path.

    A layer that is used within two others has two paths. The second of two layers of one name in the same
    layer ends in `#2`.
    """
    return dict(_iter_sublayers(network, ""))


def weight_paths(network: keras.Model) -> dict[str, keras.Variable]:
    """Return all weights of a network by path, each once, without the states of random generators."""
    weights = {}
    seen: set[int] = set()
    for path, layer in {"": network, **layer_paths(network)}.items():
        within = {id(weight) for inner in _direct_sublayers(layer) for weight in inner.weights}
        own = [weight for weight in layer.weights if id(weight) not in within]
        for name, weight in _with_unique_names(own):
            if id(weight) not in seen:
                weights[join_path(path, name)] = weight
                seen.add(id(weight))
    return weights


def join_path(path: str, name: str) -> str:
    """Return the path of `name` in `path`; the network itself has an empty path."""
    return f"{path}/{name}" if path else name


def _iter_sublayers(layer: keras.Layer, path: str) -> Iterator[tuple[str, keras.Layer]]:
    for name, inner in _with_unique_names(_direct_sublayers(layer)):
        yield join_path(path, name), inner
        yield from _iter_sublayers(inner, join_path(path, name))


def _direct_sublayers(layer: keras.Layer) -> list[keras.Layer]:
    # Public only for models (`layers`); but Bidirectional, TimeDistributed and custom layers contain layers, too.
    inner: list[keras.Layer] = layer._flatten_layers(include_self=False, recursive=False)
    return inner


def _with_unique_names(things: Iterable[_Named]) -> Iterator[tuple[str, _Named]]:
    seen: Counter[str] = Counter()
    for thing in things:
        seen[thing.name] += 1
        yield thing.name if seen[thing.name] == 1 else f"{thing.name}#{seen[thing.name]}", thing
