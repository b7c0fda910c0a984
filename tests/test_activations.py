"""`record_activation`: inner activations in TensorBoard and the report, but neither in training steps nor exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import Line, Points, Small, small
from stopping import differences

from tfaip_like import Graph, Mode, Tensors, keras, load_predictor, ops, record_activation, train
from tfaip_like._report.summary_store import list_stored_summaries
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data import Arrays
from tfaip_like.modeling._network import build_networks
from tfaip_like.summaries import Histogram, Image, Summary, Text


@keras.saving.register_keras_serializable("test_activations")
class Doubled(keras.layers.Layer):  # type: ignore[misc]
    """Subclassed layer that records in `call`."""

    def call(self, x: Any) -> Any:
        return x + record_activation("in_layer", x)


class Backbone(Graph):
    """Part of a network that records while it is built."""

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
        record_activation("squares", ops.square(hidden))  # no output depends on it
        return hidden


class Shown(Line):
    """Shows inner activations in three ways."""

    graph: Graph = Backbone()

    def build(self, inputs: Tensors) -> Tensors:
        hidden = self.graph.build(inputs["x"])
        layer = Doubled()
        hidden = layer(layer(hidden))
        return {"sum": keras.layers.Dense(1, name="add")(keras.layers.Dropout(0.1)(hidden))[:, 0]}

    def activation_summaries(
        self, inputs: Arrays, targets: Arrays, outputs: Arrays, activations: Arrays
    ) -> Mapping[str, Summary]:
        assert set(activations) == {"squares", "in_layer", "in_layer_2"}
        assert all(values.dtype == "float32" for values in activations.values())
        assert activations["squares"].shape == (32, 8)
        np.testing.assert_allclose(activations["in_layer"] ** 2, activations["squares"], rtol=1e-2)
        np.testing.assert_array_equal(activations["in_layer_2"], 2 * activations["in_layer"])
        assert len(inputs["x"]) == len(targets["y"]) == len(outputs["sum"]) == 32
        return {
            "squares": Histogram(activations["squares"]),
            "map": Image(activations["in_layer"]),
            "largest": Text(f"{activations['in_layer'].max():.3f}"),
        }


class Silent(Graph):
    """The same part, which records nothing."""

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(8, activation="relu", name="hidden")(inputs)


class Plain(Shown):
    """The same network, which shows nothing."""

    graph: Graph = Silent()

    def build(self, inputs: Tensors) -> Tensors:
        hidden = self.graph.build(inputs["x"])
        return {"sum": keras.layers.Dense(1, name="add")(keras.layers.Dropout(0.1)(4 * hidden))[:, 0]}


def assert_shown(run: Path) -> None:
    """Check that a run shows the activations of its last validation."""
    shown = list_stored_summaries(run / "summaries" / "val")
    assert {stored.path.name for stored in shown} == {"squares.json", "map.png", "largest.md"}
    assert set(load_predictor(run / "best").one({"x": np.zeros(2, "float32")}).outputs) == {"sum"}


@pytest.mark.parametrize("trainer", [{}, {"precision": "mixed_bfloat16", "calc_ema": 0.5}], ids=str)
def test_activations_are_shown_and_not_exported(trainer: dict[str, Any], tmp_path: Path) -> None:
    train(small(tmp_path / "run", model=Shown(), evaluator=None, trainer={"epochs": 1, **trainer}))
    assert_shown(tmp_path / "run")
    assert "largest" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_training_does_not_depend_on_what_is_shown(tmp_path: Path) -> None:
    for name, model in (("shown", Shown()), ("plain", Plain())):
        train(small(tmp_path / name, model=model, evaluator=None, trainer={"epochs": 2}))
    assert differences(tmp_path / "shown", tmp_path / "plain") == []


class Histograms(Line):
    """Records a tensor and defines no summary."""

    def build(self, inputs: Tensors) -> Tensors:
        record_activation("x", inputs["x"])
        return super().build(inputs)


def test_the_default_is_a_histogram(tmp_path: Path) -> None:
    train(small(tmp_path / "run", model=Histograms(), evaluator=None, trainer={"epochs": 1, "lav_every_n": 1}))
    shown = list_stored_summaries(tmp_path / "run" / "summaries" / "val")
    assert [stored.path.name for stored in shown] == ["x.json"]


class Forced(Line):
    """Teacher forcing: training and prediction network record."""

    feed_targets = ("y",)

    def build(self, inputs: Tensors) -> Tensors:
        record_activation("fed", inputs["y"])
        hidden = keras.layers.Dense(1, name="linear")(inputs["x"])[:, 0]
        return {"sum": hidden + 0 * inputs["y"]}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        hidden = trained.get_layer("linear")(inputs["x"])
        record_activation("predicted", hidden)
        return {"sum": hidden[:, 0]}

    def activation_summaries(
        self, inputs: Arrays, targets: Arrays, outputs: Arrays, activations: Arrays
    ) -> Mapping[str, Summary]:
        np.testing.assert_array_equal(activations["fed"], targets["y"])
        np.testing.assert_array_equal(activations["predicted"][:, 0], outputs["sum"])
        return {}


def test_both_networks_record(tmp_path: Path) -> None:
    train(small(tmp_path / "run", model=Forced(), evaluator=None, trainer={"epochs": 1}))


class Untrained(Line):
    """Records what only an untrained layer computes."""

    def build(self, inputs: Tensors) -> Tensors:
        record_activation("x", keras.layers.Dense(1, name="extra")(inputs["x"]))
        return super().build(inputs)


class Misspelt(Histograms):
    """Asks for an activation that does not exist."""

    def activation_summaries(
        self, inputs: Arrays, targets: Arrays, outputs: Arrays, activations: Arrays
    ) -> Mapping[str, Summary]:
        return {"x": Histogram(activations["y"])}


def test_mistakes_are_explained() -> None:
    with pytest.raises(CodeError, match=r"Untrained.build: record_activation: no output depends on .* extra/kernel"):
        build_networks(Untrained(), Small().data)
    with pytest.raises(KeyError) as caught:
        train(small(model=Misspelt(), evaluator=None))
    assert "Recorded activations: x." in "\n".join(caught.value.__notes__)


def test_nothing_is_recorded_outside(tmp_path: Path) -> None:
    source = Points().source(Mode.TRAIN)
    assert record_activation("x", source) is source
    assert not build_networks(Line(), Points()).activations
