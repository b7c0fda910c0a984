"""Paths of layers and weights in a network, by its nesting: `encoder/dense_1`, `encoder/dense_1/kernel`.

Keras' `variable.path` is set when the weight is created and contains only the name scopes open at that time. With Keras
3.15, `dense` in a functional model `encoder` within the network and a `dense` next to `encoder` both have the weight
`dense/kernel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_Named = TypeVar("_Named", keras.Layer, keras.Variable)


def layer_paths(network: keras.Model) -> dict[str, keras.Layer]:
    """Return all layers of a network by path, including nested layers.

    A layer nested in two others has two paths. If two layers of the same parent share a name, the path of the second
    ends in `#2`.
    """
    return dict(_iter_sublayers(network, ""))


def weight_paths(network: keras.Model) -> dict[str, keras.Variable]:
    """Return each weight of a network once, by path; states of random generators are not included."""
    weights = {}
    seen: set[int] = set()
    for path, layer in {"": network, **layer_paths(network)}.items():
        nested = {id(weight) for inner in _direct_sublayers(layer) for weight in inner.weights}
        direct = [weight for weight in layer.weights if id(weight) not in nested]
        for name, weight in _with_unique_names(direct):
            if id(weight) not in seen:
                weights[join_path(path, name)] = weight
                seen.add(id(weight))
    return weights


def join_path(path: str, name: str) -> str:
    """Return the path of `name` below `path`; the path of the network itself is empty."""
    return f"{path}/{name}" if path else name


def _iter_sublayers(layer: keras.Layer, path: str) -> Iterator[tuple[str, keras.Layer]]:
    for name, inner in _with_unique_names(_direct_sublayers(layer)):
        yield join_path(path, name), inner
        yield from _iter_sublayers(inner, join_path(path, name))


def _direct_sublayers(layer: keras.Layer) -> list[keras.Layer]:
    # The public `layers` exists for models only, but Bidirectional, TimeDistributed and custom layers also nest layers.
    inner: list[keras.Layer] = layer._flatten_layers(include_self=False, recursive=False)
    return inner


def _with_unique_names(named: Iterable[_Named]) -> Iterator[tuple[str, _Named]]:
    seen: Counter[str] = Counter()
    for item in named:
        seen[item.name] += 1
        yield item.name if seen[item.name] == 1 else f"{item.name}#{seen[item.name]}", item
