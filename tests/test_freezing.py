"""Layers that are not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from nested import Nested
from small import Line, Points, small

from tfaip_like import UsageError, train
from tfaip_like._keras_ext.paths import layer_paths, weight_paths
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like.modeling._network import build_networks
from tfaip_like.settings import WarmStart


@pytest.fixture
def network() -> keras.Model:
    return build_networks(Nested(), Points()).training


def values(network: keras.Model) -> dict[str, np.ndarray[Any, Any]]:
    return {path: np.array(weight) for path, weight in weight_paths(network).items()}


# Paths.


def test_every_weight_of_a_network_has_a_unique_path(network: keras.Model) -> None:
    weights = weight_paths(network)
    assert {id(weight) for weight in weights.values()} == {id(weight) for weight in network.weights}
    assert {
        "encoder/hidden/kernel",
        "hidden/kernel",
        "stack/norm/moving_mean",
        "both/backward_layer/simple_rnn_cell/recurrent_kernel",
        "attention/query/kernel",
        "each/shared/bias",
        "scaled/second/kernel",
        "scaled/norm/gamma",
        "scaled/scale",
        "scaled/shift",
    } <= set(weights)
    assert not [path for path in weights if "seed" in path]


def test_a_layer_in_two_models_has_two_paths_and_one_set_of_weights() -> None:
    shared = keras.layers.Dense(2, name="shared")
    x = keras.Input((2,))
    parts = [keras.Model(x, shared(x), name=name) for name in ("left", "right")]
    network = keras.Model(x, parts[0](x) + parts[1](x))
    assert [path for path in layer_paths(network) if path.endswith("shared")] == ["left/shared", "right/shared"]
    assert list(weight_paths(network)) == ["left/shared/kernel", "left/shared/bias"]
    keras.Model(x, keras.layers.Dense(1)(network.output))
    rest = keras.Model(x, keras.layers.Dense(1, name="rest")(network(x)))
    assert freeze(rest, ".*/right/shared").frozen == 6


# What is frozen.


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("hidden", ["hidden/"]),
        ("encoder", ["encoder/"]),
        ("encoder/hidden", ["encoder/hidden/"]),
        (".*/hidden", ["encoder/hidden/"]),
        ("stack/norm", ["stack/norm/"]),
        ("both", ["both/"]),
        ("both/forward_layer", ["both/forward_layer/"]),
        ("attention/(key|query)", ["attention/key/", "attention/query/"]),
        ("each/shared", ["each/shared/"]),
        ("scaled", ["scaled/"]),
        ("scaled/first|scaled/norm", ["scaled/first/", "scaled/norm/"]),
        ("(?!add).*", ["encoder/", "hidden/", "stack/", "both/", "attention/", "each/", "scaled/"]),
    ],
)
def test_freezing_a_layer_freezes_exactly_its_inner_layers(
    network: keras.Model, pattern: str, frozen: list[str]
) -> None:
    before = {path for path, weight in weight_paths(network).items() if weight.trainable}
    freeze(network, pattern)
    trained = {id(weight) for weight in network.trainable_weights}
    still = {path for path, weight in weight_paths(network).items() if id(weight) in trained}
    assert before - still == {path for path in before if path.startswith(tuple(frozen))} != set()


@pytest.mark.slow
def test_frozen_weights_and_statistics_stay_bit_identical_while_the_others_move(
    network: keras.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = values(network)
    np.savez(tmp_path / "before.npz", **before)  # type: ignore[arg-type]
    scope = "encoder|stack/norm|both/forward_layer|attention|scaled/norm"
    trainer = {"epochs": 1, "no_train_scope": scope, "jit_compile": False, "val_every_n": 0}
    with caplog.at_level("INFO", "tfaip_like"):
        result = train(
            small(model=Nested(), trainer=trainer, warmstart=WarmStart(model=tmp_path / "before.npz"), evaluator=None)
        )
    frozen = ("encoder/", "stack/norm/", "both/forward_layer/", "attention/", "scaled/norm/")
    same = {path for path, value in values(result.network).items() if np.array_equal(value, before[path])}
    assert same == {path for path in before if path.startswith(frozen)}
    printed = "frozen: encoder, stack/norm, both/forward_layer, attention, scaled/norm (96 of 227 parameters)"
    assert printed in caplog.messages


def test_a_frozen_layer_of_a_plain_network_needs_no_warm_start() -> None:
    first, second = (train(small(trainer={"epochs": epochs, "no_train_scope": "hidden"})) for epochs in (1, 2))
    one, two = values(first.network), values(second.network)
    assert np.array_equal(one["hidden/kernel"], two["hidden/kernel"])
    assert not np.array_equal(one["add/kernel"], two["add/kernel"])


# Mistakes.


@pytest.mark.parametrize("pattern", ["encodr", "encoder/drop.*", "network/encoder", "enc"])
def test_a_pattern_without_a_match_is_reported_with_the_nearest_layers(network: keras.Model, pattern: str) -> None:
    with pytest.raises(UsageError, match=r"no layer with weights matches; closest: encoder"):
        freeze(network, pattern)


def test_freezing_all_weights_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"no_train_scope \.\* freezes all trainable weights \(matched: hidden, add"):
        freeze(build_networks(Line(), Points()).training, ".*")
