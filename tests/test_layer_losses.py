"""What layers add to the loss, and weights that no loss depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from small import Line, Points, small

from tfaip_like import Tensors, UsageError, train
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import build_networks


@keras.saving.register_keras_serializable("test_layer_losses")
class Adds(keras.layers.Layer):
    """Adds each sample's first value to the loss."""

    def call(self, x: Any) -> Any:
        self.add_loss(x[:, 0])
        return x


class WithLosses(Line):
    """Has layers that add losses."""

    kind: str = "plain"
    """Which."""

    def build(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        nested = keras.Sequential([keras.Sequential([Adds()])])
        layers = {"plain": Adds(), "nested": nested, "penalty": keras.layers.Activation("linear", **self._penalty())}
        hidden = layers[self.kind](x) if self.kind in layers else x
        if self.kind == "twice":
            hidden = (shared := Adds())(shared(x))
        outputs = {"sum": keras.layers.Dense(1, name="add")(hidden)[:, 0]}
        if self.kind == "unused":
            outputs["more"] = keras.layers.Dense(1, name="more")(x)
        return outputs

    def _penalty(self) -> dict[str, Any]:
        return {"activity_regularizer": keras.regularizers.L2(0.5)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {}


class NoWeight(WithLosses):
    """Its loss depends on nothing that can be trained."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": targets["y"] ** 2}


@pytest.fixture
def mixed() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def added_loss(kind: str, x: np.ndarray[Any, Any]) -> Any:
    """Return the total without the loss of the model."""
    model = WithLosses(kind=kind)
    batch = Batch({"x": x}, {"y": np.zeros(len(x), "float32")})
    training = TrainingModel(build_networks(model, Points()).training, model, batch)
    fed = to_model_inputs(batch)
    outputs = training(fed, training=True)
    total = training.compute_loss(x=fed, y_pred=outputs)
    assert total.shape == ()
    assert total.dtype == "float32"
    return float(total) - float(ops.mean(model.loss(fed["inputs"], fed["targets"], outputs)["square"]))


@pytest.mark.parametrize(("kind", "times"), [("plain", 1), ("nested", 1), ("twice", 2)])
def test_a_vector_that_a_layer_adds_is_averaged_over_the_samples(kind: str, times: int) -> None:
    x = np.array([[1, 0], [2, 0], [6, 0]], "float32")
    assert added_loss(kind, x) == pytest.approx(3 * times, rel=1e-4)


@pytest.mark.usefixtures("mixed")
def test_a_penalty_of_activations_in_float16_is_summed_in_float32() -> None:
    x = np.full((1000, 2), 16, "float32")  # in float16 the sum of the squares is infinite
    assert added_loss("penalty", x) == pytest.approx(0.5 * 2 * 16**2, rel=1e-3)


def test_added_losses_do_not_depend_on_accumulation() -> None:
    def losses(**changes: Any) -> list[float]:
        model = WithLosses(kind="nested")
        history = train(small(model=model, data=Points(samples=96), evaluator=None, **changes)).history
        return [row["loss"] for row in history]

    accumulated = losses(train={"batch_size": 8}, trainer={"epochs": 2, "accumulate_steps": 2})
    assert accumulated == pytest.approx(losses(train={"batch_size": 16}, trainer={"epochs": 2}), rel=1e-4)


def test_weights_that_no_loss_depends_on_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    train(small(model=WithLosses(kind="unused"), evaluator=None, trainer={"epochs": 2}))
    (message,) = (text for text in caplog.messages if "get no gradient" in text)
    assert message == (
        "2 of 4 weights get no gradient and keep their values: more/kernel, more/bias "
        "(outputs not used by any loss: more)"
    )


def test_frozen_weights_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    train(small(model=WithLosses(kind="unused"), evaluator=None, trainer={"epochs": 1, "no_train_scope": "more"}))
    assert "get no gradient" not in caplog.text


def test_a_loss_without_any_weight_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"NoWeight.loss does not depend on any trainable weight"):
        train(small(model=NoWeight(), evaluator=None, trainer={"epochs": 1}))
