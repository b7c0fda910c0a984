"""Stable paths of layers and weights in a network: `encoder/conv`, `encoder/conv/kernel`.

A path consists of the name scope in which a layer was called first (see `modeling._graph_scopes`), the names of the
layers that contain it, and its own name. The name of a layer or weight is

1. the name that the user gave it,
2. or the attribute of the layer that holds it (`block/proj`, `block/convs/0`),
3. or the name of its class, numbered among its siblings (`dense`, `dense_1`), for layers of a functional or sequential
   model, which has no attributes.

So layers that are added elsewhere do not change it. Keras numbers names over the whole process, and its `variable.path`
contains only the name scopes that were open when the weight was created: with Keras 3.15, `dense` in a functional model
`encoder` within the network and a `dense` next to `encoder` both have the weight `dense/kernel`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import keras

from tfaip_like._keras_ext.layer_names import has_automatic_name, name_in_scope, scope_of

T = TypeVar("T")
_Part: TypeAlias = "keras.Layer | keras.Variable | keras.random.SeedGenerator"

SEED_STATE = "seed_generator_state"
"""Name of the variable with the state of a random generator."""
_UNNAMED_VARIABLE = re.compile(r"variable(?:_\d+)?")


def layer_paths(network: keras.Model) -> dict[str, keras.Layer]:
    """Return all layers of a network by path, including nested layers.

    A layer nested in two others has two paths.
    """
    scopes = defaultdict(list)
    for layer in _direct_sublayers(network):
        scopes[scope_of(layer)].append(layer)
    found: list[tuple[str, keras.Layer]] = []
    for scope, layers in scopes.items():
        for name, layer in _name_parts(network, layers):
            path = join_path(scope, name)
            found += [(path, layer), *_iter_sublayers(layer, path)]
    return dict(number_duplicates(found))


def weight_paths(network: keras.Model) -> dict[str, keras.Variable]:
    """Return each weight of a network once, by path; states of random generators are not included."""
    weights = {id(weight) for weight in network.weights}
    return {path: variable for path, variable in _variable_paths(network).items() if id(variable) in weights}


def set_variable_paths(network: keras.Model) -> None:
    """Set Keras' `variable.path` to the stable path, after which optimizers name their variables."""
    for path, variable in _variable_paths(network).items():
        variable._path = path


def keras_layer_paths(network: keras.Model) -> dict[str, keras.Layer]:
    """Return all layers of a network by the names that Keras writes into its files, including automatic ones."""

    def iter_layers(layer: keras.Layer, path: str) -> Iterator[tuple[str, keras.Layer]]:
        for name, inner in number_duplicates((inner.name, inner) for inner in _direct_sublayers(layer)):
            yield join_path(path, name), inner
            yield from iter_layers(inner, join_path(path, name))

    return dict(iter_layers(network, ""))


def join_path(path: str, name: str) -> str:
    """Return the path of `name` below `path`; the path of the network itself is empty."""
    return f"{path}/{name}" if path else name


def number_duplicates(named: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Append `#2` to the second occurrence of a name, and so on."""
    seen: Counter[str] = Counter()
    for name, part in named:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}", part


def _variable_paths(network: keras.Model) -> dict[str, keras.Variable]:
    """Return each variable of a network once, by its shortest path."""
    found: dict[int, str] = {}
    layers = [("", network), *layer_paths(network).items()]
    # By depth and name: the path of a shared layer does not depend on the order of those that contain it.
    for path, layer in sorted(layers, key=lambda item: (item[0].count("/") if item[0] else -1, item[0])):
        for name, variable in _direct_variables(layer):
            found.setdefault(id(variable), join_path(path, name))
    named = ((found[id(variable)], variable) for variable in network.variables if id(variable) in found)
    return dict(number_duplicates(named))


def _direct_variables(layer: keras.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield the names and variables that a layer has itself, including the states of its random generators."""
    nested = {id(weight) for inner in _direct_sublayers(layer) for weight in inner.weights}
    yield from _name_parts(layer, [weight for weight in layer.weights if id(weight) not in nested])
    for name, generator in _name_parts(layer, layer._seed_generators):
        yield join_path(name, SEED_STATE), generator.state


def _iter_sublayers(layer: keras.Layer, path: str) -> Iterator[tuple[str, keras.Layer]]:
    for name, inner in _name_parts(layer, _direct_sublayers(layer)):
        inner_path = join_path(path, name)
        yield inner_path, inner
        yield from _iter_sublayers(inner, inner_path)


def _direct_sublayers(layer: keras.Layer) -> list[keras.Layer]:
    # The public `layers` exists for models only, but Bidirectional, TimeDistributed and custom layers also nest layers.
    inner: list[keras.Layer] = layer._flatten_layers(include_self=False, recursive=False)
    return inner


def _name_parts(parent: keras.Layer, parts: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the unique names of layers, weights or random generators of a layer, and the parts themselves."""
    parts = list(parts)
    attributes = _attribute_paths(parent)
    given = {id(part): name for part in parts if (name := _given_name(parent, part)) is not None}
    counts = Counter(given.values())
    names: dict[int, str] = {}
    for part in parts:
        name = given.get(id(part))
        if name is None or counts[name] > 1:
            name = attributes.get(id(part), name)
        if name is not None:
            names[id(part)] = name
    names |= _number_by_class([part for part in parts if id(part) not in names], taken=set(names.values()))
    return number_duplicates((names[id(part)], part) for part in parts)


def _given_name(parent: keras.Layer, part: _Part) -> str | None:
    """Return the name that the user gave to a part; None if Keras made its name."""
    if isinstance(part, keras.random.SeedGenerator):
        return None
    if isinstance(part, keras.Variable):
        return None if _UNNAMED_VARIABLE.fullmatch(part.name) else part.name
    # Bidirectional makes the names of its layers from that of the layer that it copies.
    is_automatic = has_automatic_name(part) or isinstance(parent, keras.layers.Bidirectional)
    return None if is_automatic else name_in_scope(part)


def _number_by_class(parts: Iterable[Any], taken: set[str]) -> dict[int, str]:
    """Return the names that Keras made of classes, numbered among these parts in the order of creation."""
    names: dict[int, str] = {}
    for part in sorted(parts, key=lambda part: _split_number(part.name)[1]):
        base, _ = _split_number(part.name)
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names[id(part)] = name
    return names


def _split_number(name: str) -> tuple[str, int]:
    """Return the class and the number in a name that Keras made (`dense_2`)."""
    base, _, number = name.rpartition("_")
    return (base, int(number)) if base and number.isdecimal() else (name, 0)


def _attribute_paths(layer: keras.Layer) -> dict[int, str]:
    """Return the attributes of a layer that hold its layers, weights and generators, by the ID of what they hold."""
    found: dict[int, str] = {}
    attributes = vars(layer) | vars(layer).get("_modules", {})  # of PyTorch
    for name, value in attributes.items():
        if name not in _keras_attributes():
            for path, part in _iter_parts(value, name.lstrip("_")):
                found.setdefault(id(part), path)
    return found


@functools.cache
def _keras_attributes() -> frozenset[str]:
    """Return the attributes that Keras gives to any layer and model, such as lists of all its layers."""
    x = keras.Input((1,), name="x")
    return frozenset({**vars(keras.Model(x, x, name="functional")), **vars(keras.Sequential(name="sequential"))})


def _iter_parts(value: Any, path: str) -> Iterator[tuple[str, _Part]]:
    if isinstance(value, (keras.Layer, keras.Variable, keras.random.SeedGenerator)):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _iter_parts(part, join_path(path, str(key).replace("/", "_")))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _iter_parts(part, join_path(path, str(number)))
