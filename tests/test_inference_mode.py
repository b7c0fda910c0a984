"""Exports predict what the network does in inference, and are rejected where they do not."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from small import Line, Points, small

from tfaip_like import (
    ArraySource,
    Data,
    Mode,
    Model,
    Sample,
    Scenario,
    Spec,
    Tensors,
    TrainingError,
    UsageError,
    keras,
    load_predictor,
    ops,
    train,
)
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.exporting import run_exporters
from tfaip_like._export.finite_inputs import find_finite_inputs
from tfaip_like._export.verification import check_export
from tfaip_like._export.writing import write_export
from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._training.exports import ExportWriter
from tfaip_like.data import LavLoaderSettings
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader_factory import open_validation
from tfaip_like.exporters import ONNX, Exporter, LiteRT
from tfaip_like.inference._experts import gather_experts
from tfaip_like.inference._lav import load_and_validate
from tfaip_like.modeling._network import Networks, build_networks
from tfaip_like.settings import Trainer

IMAGES = np.random.default_rng(3).random((4, 8, 8, 3), dtype="float32")


class Pictures(Points):
    """Input of the networks below."""

    inputs = {"x": Spec((8, 8, 3))}


@keras.saving.register_keras_serializable("test_inference_mode")
class Wrapped(keras.layers.Layer):
    """Holds an augmentation layer and does not know of `training`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.flip = keras.layers.RandomFlip()

    def call(self, x: Any) -> Any:
        return self.flip(x)


@keras.saving.register_keras_serializable("test_inference_mode")
class DefaultsToTraining(keras.layers.Layer):
    """A custom layer whose `training` argument defaults to True."""

    def call(self, x: Any, training: bool = True) -> Any:
        return x + 1 if training else x


def augmented(layers: list[keras.layers.Layer]) -> Any:
    def build(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return build


def in_functional(x: Any) -> Any:
    inner = keras.Input((8, 8, 3))
    return keras.Model(inner, keras.layers.RandomTranslation(0.3, 0.3)(inner))(x)


BUILDERS: Mapping[str, Callable[[Any], Any]] = {
    "layers": lambda x: augmented(
        [keras.layers.RandomTranslation(0.2, 0.2), keras.layers.RandomRotation(0.25), keras.layers.RandomContrast(0.5)]
    )(x),
    "sequential": lambda x: keras.Sequential([keras.layers.RandomFlip(), keras.layers.GaussianNoise(1.0)])(x),
    "functional": in_functional,
    "wrapped": lambda x: Wrapped()(x),
    "time distributed": lambda x: keras.layers.TimeDistributed(keras.layers.RandomFlip())(x[:, None])[:, 0],
    "custom": lambda x: DefaultsToTraining()(x),
}


def export_of(folder: Path, build: Callable[[Any], Any]) -> keras.Model:
    x = keras.Input((8, 8, 3), name="x")
    network = keras.Model({"x": x}, {"y": build(x)}, name="network")
    write_export(folder, Networks(network, network), Scenario(data=Pictures(), model=Line()), {"epoch": 1})
    return network


@pytest.mark.parametrize("name", BUILDERS)
def test_layers_that_train_by_default_are_off_in_an_export(name: str, tmp_path: Path) -> None:
    network = export_of(tmp_path / "export", BUILDERS[name])
    expected = np.asarray(network({"x": IMAGES}, training=False)["y"])
    np.testing.assert_allclose(load_export(tmp_path / "export")({"x": IMAGES})["y"], expected, atol=1e-6)
    np.testing.assert_allclose(expected, IMAGES, atol=1e-6)
    assert check_export(tmp_path / "export", network, Batch({"x": IMAGES}, {})) < 1e-6
    loaded = keras.saving.load_model(tmp_path / "export" / "model.keras")
    np.testing.assert_allclose(loaded.predict({"x": IMAGES}, verbose=0)["y"], expected, atol=1e-6)


@pytest.mark.parametrize("exporter", [ONNX(), slow(LiteRT())])
def test_layers_that_train_by_default_are_off_in_other_formats(
    exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for package in exporter.required_packages:
        pytest.importorskip(package)
    export_of(tmp_path / "a[1] 'ü?" / "export", BUILDERS["sequential"])
    run_exporters([tmp_path / "a[1] 'ü?" / "export"], [exporter], Batch({"x": IMAGES}, {}), small())
    assert not [record for record in caplog.records if record.name.startswith("tfaip_like")]
    assert list((tmp_path / "a[1] 'ü?" / "export").glob("network.*"))


# Exports that differ.


class Counts(keras.layers.Layer):
    """Computes something else each time that it is traced."""

    calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x + self.calls


class Unstable(Line):
    """A network that no export can be like."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": Counts()(keras.layers.Dense(1)(inputs["x"]))[:, 0]}


def test_an_export_that_differs_ends_the_training_and_does_not_become_best(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="^export verification failed: outputs differ from the trained network: output 'sum' by"
    ):
        train(small(tmp_path / "run", model=Unstable(), evaluator=None))
    assert not (tmp_path / "run" / "best").exists()
    assert not list((tmp_path / "run").glob(".best*"))


class Drawn(keras.layers.Layer):
    """Draws from the global generator, in inference too."""

    def call(self, x: Any) -> Any:
        return x + 0 * keras.random.normal((1,))


class Counting(keras.layers.Layer):
    """Has a state that each call changes."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")

    def call(self, x: Any) -> Any:
        self.calls.assign_add(1)
        return x + keras.ops.cast(self.calls, x.dtype)


class Counted(Line):
    """Answers otherwise each time."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": Counting()(super().build(inputs)["sum"])}


def test_an_output_that_cannot_be_compared_is_mentioned_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(small(tmp_path / "run", model=Counted(), trainer={"epochs": 2}))
    printed = [record.getMessage() for record in caplog.records if "not verified" in record.getMessage()]
    assert printed == ["output 'sum' not verified: it changes between calls (random numbers or state)"]


def test_an_export_has_the_state_of_the_training_not_of_its_validation(tmp_path: Path) -> None:
    train(small(tmp_path / "run", model=Counted(), trainer={"epochs": 2}))  # 12 steps, then 4 batches of validation
    for export in ("best", "export"):
        network = load_export(tmp_path / "run" / export, trust_code=True).saved_model
        assert [int(variable) % 12 for variable in network.variables if variable.dtype == "int32"] == [0], export


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    """Neither in the random states, nor on the disk."""
    from tfaip_like._keras_ext.random_states import global_seed_generator

    x = keras.Input((2,), name="x")
    network = keras.Model({"x": x}, {"sum": Drawn()(x)[:, 0]}, name="network")
    scenario = small(tmp_path / "run")
    (tmp_path / "run").mkdir()
    from tfaip_like._runs.output_dir import OutputDir

    exports = ExportWriter(
        OutputDir(tmp_path / "run"),
        Networks(network, network),
        scenario,
        Batch({"x": np.ones((3, 2), "float32")}, {}),
        BackgroundWriter(tmp_path, lambda: None),
    )
    before = np.asarray(global_seed_generator().state)
    exports.verify_current()
    assert np.array_equal(before, np.asarray(global_seed_generator().state))
    assert not list((tmp_path / "run").iterdir())


# A network that Keras cannot save.


class Opaque(keras.layers.Layer):
    """Keras cannot write what it was made with."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


class NotSaved(Line):
    """A network with an opaque layer."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1)(Opaque(lambda x: 2 * x)(inputs["x"]))[:, 0]}


@pytest.mark.slow
def test_a_network_that_keras_cannot_save_is_exported_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = {"epochs": 3, "lav_every_n": 1}
    train(small(tmp_path / "run", model=NotSaved(), trainer=trainer, exporters=[ONNX()]))
    reported = [record for record in caplog.records if "exports lack model.keras" in record.getMessage()]
    assert [record.levelno for record in reported] == [logging.WARNING]
    assert "Opaque" in reported[0].getMessage()
    assert "cannot convert to other formats: Keras could not save model.keras" in caplog.text
    for name in ("best", "export"):
        assert not (tmp_path / "run" / name / "model.keras").exists()
        assert load_predictor(tmp_path / "run" / name).one({"x": [1.0, 2.0]}).outputs["sum"].shape == ()
    warm = small(tmp_path / "warm", model=NotSaved(), trainer={"epochs": 1})
    train(dataclasses.replace(warm, warmstart=dataclasses.replace(warm.warmstart, model=tmp_path / "run")))


# Losses of LAV.


class Far(Data):
    """Inputs with which every network is very sure of itself."""

    inputs = {"x": Spec((6,))}
    targets = {"y": Spec((), "int32"), "bits": Spec((3,)), "one_hot": Spec((3,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(mode is Mode.TRAIN)
        y = random.integers(0, 3, 64)
        one_hot = np.eye(3, dtype="float32")[y]
        x = 300 * random.random((64, 6), dtype="float32")
        return ArraySource({"x": x}, {"y": y, "bits": 1 - one_hot, "one_hot": one_hot})


class TensorFlowSoftmax(keras.layers.Layer):
    """A softmax that is not Keras' own."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.softmax(x)


class Sure(Model):
    """Each kind of cross entropy, of each way to compute probabilities."""

    full_precision: bool = False
    """Whether the last layers compute in float32, as Keras recommends for mixed precision."""

    def build(self, inputs: Tensors) -> Tensors:
        dtype = "float32" if self.full_precision else None
        dense = lambda **kwargs: keras.layers.Dense(3, dtype=dtype, **kwargs)(inputs["x"])  # noqa: E731
        return {
            "softmax": dense(activation="softmax"),
            "layer": keras.layers.Softmax(dtype=dtype)(dense()),
            "ops": ops.softmax(dense()),
            "sigmoid": dense(activation="sigmoid"),
            "custom": TensorFlowSoftmax(dtype=dtype)(dense()),
            "plain": ops.exp(dense() * 1e-3) / 10,
        }

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        losses = keras.losses
        sparse = {
            name: losses.sparse_categorical_crossentropy(targets["y"], outputs[name])
            for name in ("softmax", "layer", "ops", "custom", "plain")
        }
        return sparse | {
            "categorical": losses.CategoricalCrossentropy(reduction=None)(targets["one_hot"], outputs["softmax"]),
            "binary": losses.binary_crossentropy(targets["bits"], outputs["sigmoid"]),
            "focal": losses.categorical_focal_crossentropy(targets["one_hot"], outputs["custom"]),
        }

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"again": keras.metrics.sparse_categorical_crossentropy(targets["y"], outputs["softmax"])}


class VerySure(Scenario):
    """Makes confident mistakes."""

    data: Data = Far()
    model: Model = Sure()
    trainer: Trainer = Trainer(epochs=1, lav_every_n=1, random_seed=3, jit_compile=False)


@pytest.mark.parametrize(
    ("precision", "full_precision"),
    [("float32", False), slow("mixed_float16", True), slow("mixed_bfloat16", False), slow("mixed_bfloat16", True)],
)
def test_lav_losses_equal_validation_losses_for_confident_predictions(
    precision: Any, full_precision: bool, tmp_path: Path
) -> None:
    scenario = VerySure(model=Sure(full_precision=full_precision))
    trainer = dataclasses.replace(scenario.trainer, precision=precision, output_dir=tmp_path / "run")
    [row] = train(dataclasses.replace(scenario, trainer=trainer)).history
    names = [name for name in row if name.startswith("val_")]
    assert len(names) == 10
    for name in names:
        lav = row[name.replace("val_", "lav_")]
        assert lav == pytest.approx(row[name], rel=2e-2 if "float16" in precision else 1e-4), name
    if precision == "float32" or full_precision:
        assert row["val_softmax"] > 17  # above what clipping allows


# Values that are not finite.


class Copes(Line):
    """Replaces missing values, and masks with infinity."""

    def build(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        known = ops.where(ops.isfinite(x), x, 0.0)
        return {"sum": keras.layers.Dense(1)(known)[:, 0], "masked": ops.where(x > 100, -np.inf, known)}


def exported_model(folder: Path, model: Line) -> Path:
    scenario = small(model=model)
    write_export(folder / "export", build_networks(scenario.model, scenario.data), scenario, {"epoch": 1})
    return folder / "export"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_with_a_value_that_is_not_finite_is_named(
    value: float, trained: Path, tmp_path: Path, quick_run: Run
) -> None:
    """On a CPU relu makes 0 of NaN, so the output alone would not show it."""
    x = np.ones((7, 2), "float32")
    x[4, 1] = value
    reason = rf"input 'x' is {value} at \[1\], which the network does not support"
    with pytest.raises(UsageError, match=rf"^{reason}: .*4"):
        list(load_predictor(trained)({"x": x}))
    with pytest.raises(UsageError, match=reason):
        load_predictor(trained).one({"x": x[4]})
    with pytest.raises(UsageError, match=rf"best: {reason}: sample 4 of the batch$"):
        load_export(trained / "best")({"x": x})
    np.savez(tmp_path / "x.npz", x=x)
    done = quick_run("predict-scenario", trained, "--predict.files", tmp_path / "x.npz", "--predict.batch_size", 2)
    assert done.returncode == 2
    assert re.search(rf"{reason}: .*4", done.stderr)
    gather_experts({"a": trained, "b": trained}, tmp_path / "experts")
    samples = [Sample(inputs={"x": row}, meta={"expert": "ab"[number % 2]}) for number, row in enumerate(x)]
    with pytest.raises(UsageError, match=rf"^{reason}: .*4"):
        list(load_predictor(tmp_path / "experts")(samples))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(small(run, trainer={"epochs": 1}))
    return run


class Codes(Model):
    """Predicts integers only, and is trained with floats."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"p": keras.layers.Dense(3, activation="relu", name="p")(inputs["x"])}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        return {"code": ops.argmax(trained.get_layer("p")(inputs["x"]), axis=-1)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"size": ops.mean(outputs["p"], axis=-1)}


X = np.random.default_rng(1).random((4, 2), dtype="float32")


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [
        (Line(), X, ["x"]),
        (Codes(), X, ["x"]),
        (Copes(), X, []),
        (Line(), np.where(X.max() - 1e-6 < X, np.nan, X), []),  # it is trained with them
    ],
)
def test_inputs_that_must_be_finite_are_found_without_a_trace(model: Model, x: Any, expected: list[str]) -> None:
    networks = build_networks(model, Points())
    assert find_finite_inputs(networks, Batch({"x": x}, {"y": np.zeros(4, "float32")})) == expected


def test_a_network_may_accept_nan_and_return_infinity(tmp_path: Path) -> None:
    export = load_export(exported_model(tmp_path, Copes()))
    outputs = export({"x": np.array([[1, 200], [np.nan, 2]], "float32")})
    assert outputs["masked"].tolist() == [[1, -np.inf], [0, 2]]
    assert np.isfinite(outputs["sum"]).all()


def test_lav_names_a_sample_that_is_not_finite(trained: Path, tmp_path: Path) -> None:
    class Missing(Points):
        """The third sample lacks a number."""

        def source(self, mode: Mode) -> Sequence[Sample]:
            x = np.ones((5, 2), "float32")
            x[2, 0] = np.nan
            return ArraySource({"x": x}, {"y": np.zeros(5, "float32")})

    batches = open_validation(Missing(), Missing().source(Mode.EVALUATE), LavLoaderSettings(), 0, lambda: None, "lav")
    assert batches is not None
    with pytest.raises(UsageError, match=r"input 'x' is nan at \[0\], which the network does not support: .*2"):
        load_and_validate(load_export(trained / "best"), batches, Line(), None)
