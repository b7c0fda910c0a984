"""Paths of layers and weights: which they are, and that they stay when layers are added elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Line, Points

from tfaip_like import Graph, Tensors, record_activation
from tfaip_like._keras_ext.paths import layer_paths, weight_paths
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.modeling._network import build_networks, reset_keras

layers = keras.layers


class Block(layers.Layer):
    """Layer with layers in attributes, a list and a dict, and its own weights."""

    def __init__(self, extra: int = 0, **arguments: Any):
        super().__init__(**arguments)
        for _ in range(extra):
            layers.Dense(2)  # counts in Keras' automatic names
        self.proj = layers.Dense(4)
        self.named = layers.Dense(4, name="given")
        self.convs = [layers.Dense(4), layers.Dense(4)]
        self.same = [layers.Dense(4, name="same"), layers.Dense(4, name="same")]
        self.heads = {"left": layers.Dense(4), "right": layers.Dense(4)}
        self.drop = layers.Dropout(0.1)

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(4,), initializer="ones")
        self.shifts = [self.add_weight(shape=(4,), initializer="zeros", name="shift") for _ in range(2)]

    def call(self, x: Any) -> Any:
        for layer in (self.proj, self.named, *self.convs, *self.same, *self.heads.values()):
            x = layer(x)
        return self.drop(x) * self.scale + self.shifts[0] + self.shifts[1]


class Body(Graph):
    """Layers whose number and kind vary."""

    kinds: tuple[str, ...] = ("Dense",)
    """Layers in their order; with a name after a colon."""

    def build(self, inputs: Any) -> Any:
        for kind in self.kinds:
            inputs = make_layer(kind)(inputs)
        return inputs


def make_layer(kind: str) -> keras.Layer:
    """Return a layer of a kind, such as `Dense` or `Dense:head`."""
    kind, _, name = kind.partition(":")
    arguments: dict[str, Any] = {"name": name} if name else {}
    makers: Mapping[str, Callable[..., keras.Layer]] = {
        "Dense": lambda **given: layers.Dense(4, **given),
        "Norm": lambda **given: layers.LayerNormalization(**given),
        "Dropout": lambda **given: layers.Dropout(0.1, **given),
        "Block": lambda **given: Block(**given),
        "Sequential": lambda **given: keras.Sequential([layers.Dense(4), layers.Dense(4)], **given),
    }
    return makers[kind](**arguments)


class Pair(Line):
    """Two graphs, further ones in a list, and layers of the model itself."""

    encoder: Graph = Body()
    decoder: Graph = Body(kinds=("Dense", "Norm", "Dense:conv"))
    blocks: list[Graph] = [Body(), Body(kinds=("Dense:conv",))]
    own: tuple[str, ...] = ("Dense",)

    def build(self, inputs: Tensors) -> Tensors:
        hidden = self.encoder.build(inputs["x"])
        for kind in self.own:
            hidden = make_layer(kind)(hidden)
        hidden = self.decoder.build(hidden)
        for block in self.blocks:
            hidden = block.build(hidden)
        return {"sum": layers.Dense(1, name="add")(hidden)[:, 0]}


def paths_of(model: Line) -> list[str]:
    """Return the paths of all variables of a model's network."""
    reset_keras("float32")
    return read_paths(build_networks(model, Points()).training)


def read_paths(network: keras.Model) -> list[str]:
    paths = [variable.path for variable in network.variables]
    assert len(set(paths)) == len(paths)
    assert list(weight_paths(network)) == [weight.path for weight in network.weights]
    return paths


def layers_of(paths: list[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}


def test_layers_of_a_graph_are_named_after_the_attribute_that_holds_it() -> None:
    assert layers_of(paths_of(Pair())) == {
        *("encoder/dense", "dense", "decoder/dense", "decoder/layer_normalization", "decoder/conv"),
        *("blocks/0/dense", "blocks/1/conv", "add"),
    }


def test_layers_of_a_custom_layer_are_named_by_the_user_or_after_attributes() -> None:
    paths = paths_of(Pair(own=("Block",)))
    assert {path.removeprefix("block/") for path in layers_of(paths) if path.startswith("block/")} == {
        *("proj", "given", "convs/0", "convs/1", "same/0", "same/1", "heads/left", "heads/right"),
        *("shifts", "drop/seed_generator"),
    }
    assert {"block/scale", "block/shifts/0", "block/shifts/1"} <= set(paths)
    assert "block/drop/seed_generator/seed_generator_state" in paths


def test_layers_that_keras_copies_are_named_after_attributes() -> None:
    both = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True, unroll=True), name="both")
    network = build_with(lambda x: layers.Flatten()(both(layers.Reshape((2, 2))(x))))
    paths = {f"both/{layer}_layer/simple_rnn_cell/kernel" for layer in ("forward", "backward")}
    assert paths <= set(read_paths(network))


def test_two_builds_in_a_process_have_the_same_paths() -> None:
    model = Pair(own=("Block", "Sequential", "Block", "Dropout"))
    first = paths_of(model)
    assert paths_of(model) == first
    assert read_paths(build_networks(model, Points()).training) == first  # without a reset of Keras' numbers


def test_graphs_may_name_their_layers_alike() -> None:
    network = build_networks(Pair(), Points()).training
    names = [layer.name for layer in network.layers]
    assert len(names) == len(set(names))
    assert network.get_layer("decoder_conv") is layer_paths(network)["decoder/conv"]


def test_one_graph_in_two_attributes_or_called_twice_has_two_paths() -> None:
    body = Body()
    assert {"encoder/dense", "decoder/dense"} <= layers_of(paths_of(Pair(encoder=body, decoder=body)))

    class Twice(Line):
        part: Graph = Body()

        def build(self, inputs: Tensors) -> Tensors:
            hidden = Body().build(self.part.build(self.part.build(inputs["x"])))
            return {"sum": layers.Dense(1, name="add")(hidden)[:, 0]}

    assert layers_of(paths_of(Twice())) == {"part/dense", "part_1/dense", "body/dense", "add"}


KINDS = ("Dense", "Norm", "Dropout", "Block", "Sequential", "Dense:first", "Block:second")


@settings(max_examples=5, deadline=None)
@given(
    st.sampled_from(["encoder", "decoder", "own", "blocks"]),
    st.integers(0, 3),
    st.sampled_from([*KINDS, "Dense:added", "Block:added"]),
    st.lists(st.sampled_from(KINDS[:5]), min_size=1, max_size=2),
)
def test_an_added_layer_changes_no_path_but_of_its_class_in_its_own_graph(
    place: str, index: int, added: str, kinds: list[str]
) -> None:
    parts: dict[str, Any] = {"encoder": list(kinds), "decoder": list(kinds[::-1]), "own": list(kinds)}
    before = paths_of(make_pair(parts, 2))
    if place != "blocks":
        parts[place].insert(index, added)
    after = paths_of(make_pair(parts, 3 if place == "blocks" else 2))
    changed = {path for path in before if path not in after}
    assert not changed
    new = {path for path in after if path not in before}
    prefix = {"own": "", "blocks": "blocks/2/"}.get(place, f"{place}/")
    assert all(path.startswith(prefix) for path in new)
    if ":" in added and place != "blocks":
        assert all(path.startswith(f"{prefix}{added.partition(':')[2]}/") for path in new)


def make_pair(parts: Mapping[str, Any], num_blocks: int) -> Pair:
    """Return the model with layers of these kinds."""
    return Pair(
        encoder=Body(kinds=tuple(parts["encoder"])),
        decoder=Body(kinds=tuple(parts["decoder"])),
        own=tuple(parts["own"]),
        blocks=[Body() for _ in range(num_blocks)],
    )


class Built(Line):
    """Model with a graph, further ones in a dict, and layers that a test calls."""

    encoder: Graph = Body()
    heads: dict[str, Graph] = {}
    call_layers: ClassVar[Callable[[Any], Any]]

    def build(self, inputs: Tensors) -> Tensors:
        hidden = self.encoder.build(inputs["x"])
        for head in self.heads.values():
            hidden = head.build(hidden)
        return {"sum": layers.Dense(1, name="out")(self.call_layers(hidden))[:, 0]}


def build_with(call_layers: Callable[[Any], Any], **parts: Any) -> keras.Model:
    """Return the network of `Built` with these layers."""

    class Mine(Built):
        pass

    Mine.call_layers = staticmethod(call_layers)  # type: ignore[assignment]
    return build_networks(Mine(**parts), Points()).training


@pytest.mark.parametrize("pattern", ["encoder", "heads", "heads/right", "heads/right/block/convs"])
def test_a_graph_is_frozen_with_all_its_layers(pattern: str) -> None:
    heads = {"left": Body(), "right": Body(kinds=("Dense", "Block"))}
    network = build_with(lambda x: x, encoder=Body(kinds=("Dense", "Sequential", "Norm")), heads=heads)
    assert freeze(network, pattern).layers == (pattern,)
    left = [weight.path for weight in network.trainable_weights]
    assert left == [path for path in weight_paths(network) if not path.startswith(f"{pattern}/")]
    assert left


def test_a_given_name_is_kept_although_keras_could_have_chosen_it() -> None:
    names = ("dense_7", "dense_1", "dense")
    network = build_with(
        lambda x: [x := layers.Dense(4, name=name)(layers.Dense(4)(x)) for name in names][-1],
    )
    assert [network.get_layer(name) for name in names] == [layer_paths(network)[name] for name in names]
    own = {path for path in layers_of(read_paths(network)) if "/" not in path}
    assert own == {"dense_7", "dense_1", "dense", "dense_2", "dense_3", "dense_4", "out"}


def test_a_given_name_may_be_that_of_an_operation_that_keras_names() -> None:
    network = build_with(lambda x: layers.Dense(4, name="add_1")(layers.Dense(4, name="add")(x) + x) + x)
    assert {"add/kernel", "add_1/kernel"} <= set(read_paths(network))


def test_a_layer_named_like_a_graph_loses_no_weight() -> None:
    network = build_with(Block(name="encoder"), encoder=Body(kinds=("Dense:proj", "Dense:same")))
    assert {"encoder/proj/kernel", "encoder/proj#2/kernel", "encoder/same/0/kernel"} <= set(read_paths(network))


def test_the_key_of_a_graph_may_be_any_text() -> None:
    network = build_with(lambda x: x, heads={key: Body(kinds=("Dense:conv",)) for key in ("left/hand side", "ünï", "")})
    assert {path for path in layers_of(read_paths(network)) if path.startswith("heads")} == {
        *("heads/left_hand_side/conv", "heads/_n_/conv", "heads/_/conv"),
    }
    network.predict({"x": np.ones((1, 2))}, verbose=0)  # traced by TensorFlow


class Recording(Line):
    """Records activations of two layers with the same name that the output does not depend on."""

    first: Graph = Body()
    second: Graph = Body()

    def build(self, inputs: Tensors) -> Tensors:
        for graph in (self.first, self.second):
            record_activation("shown", graph.build(inputs["x"]))
        return {"sum": layers.Dense(1, name="out")(inputs["x"])[:, 0]}


def test_recorded_activations_may_be_of_layers_with_the_same_name() -> None:
    class Flat(Graph):
        def build(self, inputs: Any) -> Any:
            return layers.Flatten(name="flat")(inputs)

    (activations,) = build_networks(Recording(first=Flat(), second=Flat()), Points()).activations
    assert set(activations.recorded) == {"shown", "shown_2"}


@pytest.mark.parametrize(
    ("function", "parts", "message"),
    [
        (
            lambda x: x,
            {"encoder": Body(kinds=("Dense:conv", "Norm", "Dense:conv"))},
            "Mine.build: two layers of the graph 'encoder' are named 'conv'; choose different names",
        ),
        (make_layer("Dense:out"), {}, "Mine.build: two layers are named 'out'; choose different names"),
        (make_layer("Dense:x"), {}, "Mine.build: an input and a layer are named 'x'; choose different names"),
    ],
    ids=["graph", "model", "input"],
)
def test_two_layers_with_the_same_name_are_an_error(function: Any, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(CodeError) as caught:
        build_with(function, **parts)
    assert str(caught.value) == message
