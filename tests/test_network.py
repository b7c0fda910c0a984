"""How a model becomes networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np
import pytest
from keras import ops
from small import Line, Points

from tfaip_like import Data, Spec, Tensors, UsageError
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import build_networks, input_names, make_predict_fn


class Residual(Line):
    """Blocks that double the number of paths from the output to the input, each of them."""

    blocks: int = 40
    """How many."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = inputs["x"]
        for _ in range(self.blocks):
            hidden = hidden + keras.ops.tanh(hidden)
        return {"sum": keras.layers.Dense(1)(hidden)[:, 0]}


def test_the_inputs_of_a_deep_network_are_found_without_walking_every_path() -> None:
    """There are 2 ** 40 of them: this would not end."""
    assert input_names(build_networks(Residual(), Points()).training) == ["x"]


class Series(Data):
    """Series of any length."""

    inputs = {"x": Spec((None, 4))}
    targets = {"y": Spec((), "int32")}

    def source(self, mode: object) -> None:
        return None


@keras.saving.register_keras_serializable("test_network")
class Opaque(keras.layers.Layer):
    """Function without a static shape."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.mean(x, axis=0)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[None, ...]:
        return (None,) * (len(shape) - 1)


class WithOutput(Line):
    """Classes of series, and one more output."""

    output: str = ""
    """Kind of it."""

    def build(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        p = keras.layers.Dense(3, activation="softmax")(ops.mean(x, axis=1))
        more = {
            "mean of batch": lambda: ops.mean(p, axis=0),
            "mean of series": lambda: ops.mean(x, axis=(0, 2)),
            "number": lambda: ops.sum(x),
            "time first": lambda: ops.transpose(x, (1, 0, 2)),
            "merged": lambda: ops.reshape(x, (-1, 4)),
            "opaque": lambda: Opaque()(x),
        }
        return {"p": p, **({"more": more[self.output]()} if self.output in more else {})}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors | None:
        if self.output != "prediction":
            return None
        return {"p": trained.output["p"], "more": ops.max(trained.output["p"], axis=0)}

    def auxiliary_models(self, trained: keras.Model) -> Mapping[str, keras.Model]:
        if self.output != "extra":
            return {}
        return {"encoder": keras.Model(trained.input, {"more": ops.max(trained.output["p"], axis=0)})}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        ce = keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["p"])
        return {"ce": ops.mean(outputs["p"], axis=0) if self.output == "loss of each class" else ce}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"used": ops.mean(outputs["p"], axis=0)} if self.output == "metric of each class" else {}


def batch_of(size: int) -> Batch:
    return Batch({"x": np.ones((size, 5, 4), "float32")}, {"y": np.zeros(size, "int32")})


@pytest.mark.parametrize(
    ("output", "origin"),
    [
        ("mean of batch", "WithOutput.build"),
        ("mean of series", "WithOutput.build"),
        ("number", "WithOutput.build"),
        ("time first", "WithOutput.build"),
        ("merged", "WithOutput.build"),
        ("prediction", "WithOutput.build_prediction"),
        ("extra", "WithOutput.auxiliary_models, 'encoder'"),
    ],
)
def test_an_output_without_a_batch_axis_is_rejected_by_name(output: str, origin: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{origin}: output 'more' has no batch axis")):
        build_networks(WithOutput(output=output), Series())


def test_an_output_without_a_static_shape_is_checked_with_a_batch() -> None:
    model = WithOutput(output="opaque")
    with pytest.raises(UsageError, match=r"build: output 'more' has shape \(5, 4\) for a batch of 6"):
        TrainingModel(build_networks(model, Series()).training, model, batch_of(6))


@pytest.mark.parametrize("output", ["loss of each class", "metric of each class"])
def test_a_batch_of_as_many_samples_as_classes_hides_no_missing_batch_axis(output: str) -> None:
    model = WithOutput(output=output)
    with pytest.raises(UsageError, match=r"has shape \(3,\) for a batch of 6; expected a scalar or shape"):
        TrainingModel(build_networks(model, Series()).training, model, batch_of(3))


def test_outputs_and_losses_with_a_batch_axis_are_accepted() -> None:
    model = WithOutput()
    TrainingModel(build_networks(model, Series()).training, model, batch_of(3))


class Traced(keras.layers.Layer):
    """Counts how often it is traced."""

    count = 0

    def call(self, x: object) -> object:
        self.count += 1
        return x


def test_batches_of_all_shapes_are_predicted_by_one_trace() -> None:
    """Trace for any shape: an LSTM that was traced for one shape differs in the last bit.

    A resumed run would log other numbers than one that was never stopped.
    """
    x, layer = keras.Input((None, 4), name="x"), Traced()
    network = keras.Model({"x": x}, {"y": layer(x)})
    layer.count = 0
    for shape in ((4, 6, 4), (2, 6, 4), (4, 5, 4), (4, 6, 4)):
        assert make_predict_fn(network)({"x": np.ones(shape, "float32")})["y"].shape == shape
    assert layer.count == 1
