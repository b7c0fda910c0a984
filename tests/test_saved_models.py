"""SavedModels of a network: traced once, written with the current weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small import Line, Small

from tfaip_like import Model, Tensors, keras
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.layout import SERVE, WITH_LOGITS
from tfaip_like._export.missing_saved_models import write_missing_saved_models
from tfaip_like._export.saved_models import SavedModelWriter, has_saved_models
from tfaip_like._export.writing import write_export
from tfaip_like.modeling._context import TrainingPosition, context, use_position
from tfaip_like.modeling._network import build_networks, reset_keras

layers = keras.layers


@pytest.fixture(autouse=True)
def _defaults() -> None:
    """Undo the precision of an earlier test."""
    reset_keras("float32")


class Counter(keras.Layer):
    """Counts how often it is traced; may add the step of the training."""

    def __init__(self, adds_step: bool = False) -> None:
        super().__init__()
        self.adds_step = adds_step
        self.traces = 0

    def call(self, x: Any) -> Any:
        self.traces += 1
        return x + context.step if self.adds_step else x


def make_network(*inner: keras.Layer) -> keras.Model:
    """Return a network with lookup tables, states, random generators, logits and a mixed precision."""
    words = keras.Input((4,), name="the words", dtype="string")
    hidden = layers.Embedding(5, 4)(layers.StringLookup(vocabulary=["a", "b", "c"])(words))
    hidden = layers.SimpleRNN(3, dropout=0.2, unroll=True)(hidden)
    hidden = layers.Dropout(0.3)(layers.BatchNormalization()(layers.Dense(4, dtype="mixed_float16")(hidden)))
    for layer in inner:
        hidden = layer(hidden)
    return keras.Model({"the words": words}, {"class": layers.Dense(3, activation="softmax")(hidden)})


def change_weights(network: keras.Model) -> None:
    for number, variable in enumerate(network.variables):
        if variable.dtype.startswith("float") and "seed" not in variable.path:
            variable.assign(np.random.default_rng(number).random(variable.shape))


def call(saved_model: Path, function: str = "serving_default") -> dict[str, Any]:
    words = tf.constant([["a", "b", "x", "c"], ["b", "b", "", "a"]])
    loaded = tf.saved_model.load(str(saved_model))
    return {name: value.numpy() for name, value in loaded.signatures[function](words).items()}


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_later_saved_models_have_the_weights_of_their_time_without_another_trace(
    counter: Counter, tmp_path: Path
) -> None:
    network = make_network(counter)
    writer = SavedModelWriter(network, with_logits=True)
    writer.write(tmp_path / "first")
    traces = counter.traces
    change_weights(network)
    writer.write(tmp_path / "second")
    assert counter.traces == traces
    SavedModelWriter(network, with_logits=True).write(tmp_path / "fresh")
    assert counter.traces > traces
    for function in ("serving_default", SERVE, WITH_LOGITS):
        first, second, fresh = (call(tmp_path / name, function) for name in ("first", "second", "fresh"))
        assert all(np.array_equal(second[name], fresh[name]) for name in fresh)
        assert not any(np.array_equal(second[name], first[name]) for name in first)
    reader, expected = (
        tf.train.load_checkpoint(str(tmp_path / name / "variables/variables")) for name in ("second", "fresh")
    )
    assert reader.get_variable_to_dtype_map() == expected.get_variable_to_dtype_map()
    files = [{path.name for path in (tmp_path / name).rglob("*") if path.is_file()} for name in ("second", "fresh")]
    assert files[0] == files[1] - {"fingerprint.pb"}


def test_a_network_that_sees_the_step_is_traced_for_each_saved_model(tmp_path: Path) -> None:
    network = make_network(Counter(adds_step=True))
    writer = SavedModelWriter(network)
    values = []
    for step in (1.0, 50.0):
        with use_position(lambda step=step: TrainingPosition(step, 0.0)):
            writer.write(tmp_path / str(step))
        values.append(call(tmp_path / str(step))["class"])
    assert not np.array_equal(*values)


def test_a_network_with_other_variables_is_traced_again(counter: Counter, tmp_path: Path) -> None:
    dense = layers.Dense(4)
    network = make_network(counter, dense)
    writer = SavedModelWriter(network)
    writer.write(tmp_path / "first")
    traces = counter.traces
    dense.enable_lora(2)
    change_weights(network)
    writer.write(tmp_path / "second")
    assert counter.traces > traces
    SavedModelWriter(network).write(tmp_path / "fresh")
    assert np.array_equal(call(tmp_path / "second")["class"], call(tmp_path / "fresh")["class"])


class Doubled(keras.Layer):
    """Layer whose class is not registered, so Keras cannot load it."""

    def call(self, x: Any) -> Any:
        return 2 * x


class WithDoubled(Line):
    """Network with layers that Keras cannot load: `model.keras` does not suffice to write a SavedModel."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = layers.BatchNormalization()(Doubled()(layers.Lambda(lambda x: x + 1)(inputs["x"])))
        return {"sum": layers.Dense(1)(hidden)[:, 0]}


class SmallWithDoubled(Small):
    """Scenario with such a network."""

    model: Model = WithDoubled()


def test_a_network_that_keras_cannot_load_is_built_by_the_code_of_its_scenario(tmp_path: Path) -> None:
    export = tmp_path / "best"
    scenario = SmallWithDoubled()
    networks = build_networks(scenario.model, scenario.data)
    change_weights(networks.training)
    write_export(export, networks, scenario, {"epoch": 1})
    x = np.array([[0.25, 0.5]], "float32")
    expected = load_export(export)({"x": x})["sum"]
    shutil.rmtree(export / SERVE)
    assert not has_saved_models(export)
    write_missing_saved_models([export])
    assert np.array_equal(load_export(export)({"x": x})["sum"], expected)
