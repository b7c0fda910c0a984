"""What a training does and leaves behind."""

from __future__ import annotations

import csv
import dataclasses
import functools
import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import Run, slow, tensorflow_only
from small import Largest, Line, Noise, Points, Small, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow.python.framework.func_graph import FuncGraph

from scenarios.minimal import Minimal
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
    ops,
    train,
)
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import lock_output_dir
from tfaip_like._training.result import TrainResult
from tfaip_like.optimizers import SGD
from tfaip_like.params._files import read_param_file
from tfaip_like.schedules import Constant, CosineDecay, PiecewiseConstant, ReduceOnPlateau
from tfaip_like.settings import Trainer


def weights(result: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(weight) for weight in result.network.get_weights()]


def same_bits(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# What is left behind.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, TrainResult]:
    """Provide a run, for tests that only read its folder."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    scenario = small(folder, learning_rate=CosineDecay(alpha=0.5), trainer={"description": "a test"})
    return scenario, train(scenario)


def folder_of(scenario: Small) -> Path:
    assert scenario.trainer.output_dir is not None
    return scenario.trainer.output_dir


def test_the_output_folder_has_everything_under_its_fixed_name(finished: tuple[Small, TrainResult]) -> None:
    scenario, result = finished
    folder = folder_of(scenario)
    for name in (
        "trainer_params.json",
        "run.json",
        "train.log",
        "history.csv",
        "summary.json",
        "checkpoints/epoch_0003/state.json",
        "best/model.keras",
        "best/scenario_params.json",
        "best/serve/saved_model.pb",
        "export/model.keras",
        "export/scenario_params.json",
        "export/serve/saved_model.pb",
    ):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob(".*")), "something half written is left"
    run = json.loads((folder / "run.json").read_text())
    assert run["status"] == "done"
    assert run["description"] == "a test"
    assert run["random_seed"] == 7
    assert run["scenario"] == "small:Small"
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["val_loss"]) == result.history[-1]["val_loss"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["epoch"] == result.best_epoch
    assert summary["parameters"]["--trainer.description"] == "'a test'"
    log = (folder / "train.log").read_text()
    assert "epoch 3/3: loss" in log
    assert "random seed 7" in log


def test_the_parameters_of_a_run_make_the_same_scenario(finished: tuple[Small, TrainResult]) -> None:
    scenario, _ = finished
    assert type(scenario).from_dict(read_param_file(folder_of(scenario) / "trainer_params.json")) == scenario


def test_tensorboard_finds_scalars_of_training_and_validation(finished: tuple[Small, TrainResult]) -> None:
    scenario, result = finished
    for name, tag in (("train", "loss"), ("train", "lr"), ("val", "loss"), ("val", "largest_error")):
        events = EventAccumulator(str(folder_of(scenario) / "tensorboard" / name))
        events.Reload()
        prefix = "val_" if name == "val" else ""
        values = [(event.step, event.value) for event in events.Scalars(tag)]
        assert values == [(row["step"], pytest.approx(row[f"{prefix}{tag}"])) for row in result.history]


def test_without_an_output_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(small()).history[-1]["epoch"] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_run_is_never_overwritten(finished: tuple[Small, TrainResult]) -> None:
    folder = folder_of(finished[0])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(UsageError, match="already contains a run"):
        train(small(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_that_failed_before_its_first_epoch_does_not_block_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        train(small(tmp_path / "run", model=Line(loss_weights={"wrong": 1.0})))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert "has no such loss" in (tmp_path / "run" / "train.log").read_text()
    train(small(tmp_path / "run"))


def test_only_the_latest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 5, "keep_checkpoints": 2}))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["epoch_0004", "epoch_0005"]


# Exactness.


@pytest.mark.slow
def test_a_seed_makes_a_run_repeatable_bit_for_bit() -> None:
    scenario = small(data=Points(processors=[Noise()]), trainer={"jit_compile": None})
    first, again = train(scenario), train(scenario)
    assert same_bits(first, again)
    timed = ("seconds", "samples_per_second", "input_bound", "memory_mb")
    untimed = [{k: v for k, v in row.items() if k not in timed} for row in first.history]
    for row, expected in zip(again.history, untimed, strict=True):
        assert {name: row[name] for name in expected} == expected
    other = dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, random_seed=8))
    assert not same_bits(first, train(other))


def test_a_run_without_a_seed_logs_the_drawn_one(tmp_path: Path) -> None:
    first = train(small(tmp_path / "run", trainer={"random_seed": None}))
    drawn = json.loads((tmp_path / "run" / "run.json").read_text())["random_seed"]
    assert same_bits(first, train(small(trainer={"random_seed": drawn})))


@functools.cache
def seven_steps_per_execution(jit_compile: bool | None) -> TrainResult:
    return train(small(trainer={"steps_per_execution": 7, "jit_compile": jit_compile}))


@pytest.mark.parametrize(("steps_per_execution", "jit_compile"), [slow(1, None), slow(12, None), (5, False)])
def test_steps_per_execution_do_not_change_results(steps_per_execution: int, jit_compile: bool | None) -> None:
    """100 samples in batches of 8 are 12 steps: neither 5 nor 7 divides them."""
    reference = seven_steps_per_execution(jit_compile)
    result = train(small(trainer={"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}))
    assert same_bits(reference, result)
    assert [row["loss"] for row in result.history] == [row["loss"] for row in reference.history]


@pytest.mark.slow
def test_one_step_per_execution_gives_the_losses_of_several() -> None:
    """XLA added up the losses of this network in another order where an execution had one step."""

    def losses(steps_per_execution: int) -> list[float]:
        scenario = Minimal()
        trainer = dataclasses.replace(
            scenario.trainer,
            epochs=1,
            samples_per_epoch=128,
            random_seed=1,
            steps_per_execution=steps_per_execution,
            val_every_n=0,
        )
        return [row["loss"] for row in train(dataclasses.replace(scenario, trainer=trainer)).history]

    assert losses(1) == losses(8)


@pytest.mark.parametrize("steps_per_execution", [slow(1), 5])
def test_exactly_the_planned_steps_are_run(tmp_path: Path, steps_per_execution: int) -> None:
    train(small(tmp_path / "run", trainer={"steps_per_execution": steps_per_execution, "samples_per_epoch": 60}))
    for epoch in (1, 2, 3):
        arrays = np.load(tmp_path / "run" / "checkpoints" / f"epoch_{epoch:04d}" / "variables.npz")
        iterations = [arrays[name] for name in arrays.files if name.endswith("iteration")]
        assert iterations == [epoch * (60 // 8)]


def test_training_equals_plain_keras() -> None:
    """Compare with a loop written by hand, on the same data, with the same weights and optimizer."""
    result = train(
        small(model=Line(dropout=0.0), train={"shuffle": False}, optimizer=SGD(), learning_rate=Constant(lr=0.1))
    )
    keras.utils.set_random_seed(7)
    source = Points().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1)(hidden)[:, 0])
    network.compile(keras.optimizers.SGD(0.1), "mse")
    rows = np.arange(3 * 12 * 8) % 100
    network.fit(source.inputs["x"][rows], source.targets["y"][rows], batch_size=8, shuffle=False, verbose=0)
    for mine, theirs in zip(weights(result), network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_epoch_values_are_averages_over_samples_also_with_a_smaller_last_batch() -> None:
    """100 validation samples in batches of 32: the last has 4."""
    result = train(small(trainer={"epochs": 1}))
    source = Points().source(Mode.EVALUATE)
    assert isinstance(source, ArraySource)
    predicted = result.network.predict({"x": source.inputs["x"]}, verbose=0)["sum"]
    error = np.abs(predicted - source.targets["y"])
    row = result.history[0]
    assert row["val_error"] == pytest.approx(error.mean(), rel=1e-4)
    assert row["val_square"] == row["val_loss"] == pytest.approx((error**2).mean(), rel=1e-4)
    assert row["val_largest_error"] == pytest.approx(error.max(), rel=1e-4)
    assert row["val_count"] == 100


def test_loss_weights_and_regularization_are_in_the_loss() -> None:
    result = train(small(model=Line(loss_weights={"square": 2.0}, regularization=0.1), trainer={"epochs": 1}))
    row = result.history[0]
    penalty = 0.1 * float(np.sum(result.network.get_layer("hidden").kernel.numpy() ** 2))
    assert row["val_loss"] == pytest.approx(2 * row["val_square"] + penalty, rel=1e-4)


# Validation and best.


def test_validation_every_n_epochs_and_after_the_last() -> None:
    result = train(small(trainer={"epochs": 5, "val_every_n": 2}))
    assert [row["epoch"] for row in result.history if "val_loss" in row] == [2, 4, 5]


@pytest.mark.parametrize("changes", [{"data": Points(validation=False)}, slow({"trainer": {"val_every_n": 0}})])
def test_without_validation_the_training_metric_selects_the_best_epoch(tmp_path: Path, changes: dict[str, Any]) -> None:
    result = train(small(tmp_path / "run", **changes))
    assert not [name for row in result.history for name in row if name.startswith("val_")]
    assert result.best_value == min(row["loss"] for row in result.history)
    assert (tmp_path / "run" / "best" / "model.keras").exists()


class MostError(Line):
    """Thinks that errors are good."""

    best = "val_error", "max"


def test_the_model_selects_the_monitor(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", model=MostError(), trainer={"epochs": 4}))
    values = [row["val_error"] for row in result.history]
    assert result.best_value == max(values)
    assert result.best_epoch == values.index(max(values)) + 1
    kept = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert kept["epoch"] == result.best_epoch
    best = keras.saving.load_model(tmp_path / "run" / "best" / "model.keras")
    source = Points().source(Mode.EVALUATE)
    assert isinstance(source, ArraySource)
    error = np.abs(best.predict({"x": source.inputs["x"]}, verbose=0)["sum"] - source.targets["y"]).mean()
    assert error == pytest.approx(max(values), rel=1e-4)


def test_the_learning_rate_is_reduced_on_a_plateau() -> None:
    schedule = ReduceOnPlateau(lr=1e-3, factor=0.5, patience=2, min_delta=10.0, min_lr=2e-4, cooldown=1)
    result = train(small(learning_rate=schedule, trainer={"epochs": 13}))
    rates = [row["lr"] for row in result.history]
    # After the first, nothing improves by 10: two epochs of patience, then one that does not count, and so on.
    assert rates == pytest.approx([1e-3] * 3 + [5e-4] * 3 + [2.5e-4] * 3 + [2e-4] * 4, rel=1e-4)


# Stops.


@pytest.mark.parametrize("steps_per_execution", [1, slow(12)])
def test_nan_stops_and_names_the_step(tmp_path: Path, steps_per_execution: int) -> None:
    scenario = small(
        tmp_path / "run",
        data=Points(nan_at=42),
        train={"shuffle": False},
        trainer={"steps_per_execution": steps_per_execution},
    )
    message = (
        r"\(square\) at epoch 1, step 6 \(global step 6\).\n"
        r"NaN or infinity in the data: target 'y' of training sample 42 of Points.\n"
        r"Samples, losses and gradients saved to .*step_000006"
    )
    with pytest.raises(UsageError, match=message):
        train(scenario)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_learning_rate_that_is_too_high_stops_too() -> None:
    with pytest.raises(TrainingError, match=r"at epoch \d+, step \d+.*\n.*learning rate too high"):
        train(small(optimizer=SGD(), learning_rate=Constant(lr=1e30), trainer={"epochs": 20}))


# Networks.


class Sequences(Data):
    """Sequences of different lengths, and their sums."""

    inputs = {"x": Spec((None, 1), padding=-1)}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(3)
        sequences = [random.random((length, 1), dtype="float32") for length in (3, 5, 2, 7, 4, 6, 1, 3)]
        return [Sample({"x": x}, {"y": x.sum()}, meta={"length": len(x)}) for x in sequences]


class Sums(Model):
    """Adds what is not padding."""

    def build(self, inputs: Tensors) -> Tensors:
        valid = ops.cast(inputs["x"] >= 0, "float32")
        return {
            "sum": keras.layers.Dense(1)(ops.sum(inputs["x"] * valid, axis=1))[:, 0],
            "length": ops.sum(valid, axis=(1, 2)),
        }

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (targets["y"] - outputs["sum"]) ** 2}


def test_samples_of_different_lengths_are_padded() -> None:
    scenario = small(data=Sequences(), model=Sums(), evaluator=None, train={"batch_size": 4}, val={"batch_size": 3})
    result = train(scenario)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


class Repeat(Data):
    """Sequences to be repeated."""

    inputs = {"x": Spec((4,), "int32")}
    targets = {"y": Spec((4,), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        x = np.random.default_rng(mode is Mode.TRAIN).integers(1, 5, (64, 4))
        return ArraySource({"x": x}, {"y": x})


class Decoder(Model):
    """Sees the right answer so far while it trains, and only its own in prediction."""

    feed_targets = ("y",)

    def build(self, inputs: Tensors) -> Tensors:
        embed = keras.layers.Embedding(5, 8, name="embed")
        code = keras.layers.Flatten(name="code")(embed(inputs["x"]))
        before = ops.pad(inputs["y"][:, :-1], [(0, 0), (1, 0)])
        both = ops.concatenate([ops.repeat(code[:, None], 4, axis=1), embed(before)], axis=-1)
        return {"logits": keras.layers.Dense(5, name="choose")(both)}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        embed, choose = trained.get_layer("embed"), trained.get_layer("choose")
        code = keras.layers.Flatten()(embed(inputs["x"]))
        last = ops.zeros_like(inputs["x"][:, 0])
        answers = []
        for _ in range(4):
            logits = choose(ops.concatenate([code, embed(last)], axis=-1))
            last = ops.argmax(logits, axis=-1)
            answers.append(last)
        return {"answer": ops.stack(answers, axis=1)}

    def auxiliary_models(self, trained: keras.Model) -> dict[str, keras.Model]:
        return {"encoder": keras.Model({"x": trained.input["x"]}, {"code": trained.get_layer("code").output})}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "ce": ops.mean(keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["logits"], True), axis=1)
        }


@pytest.mark.slow
def test_a_model_with_another_prediction_network_and_extra_networks(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", data=Repeat(), model=Decoder(), evaluator=None))
    assert [tensor.name for tensor in result.network.inputs] == ["x"]
    export = tmp_path / "run" / "export"
    x = np.array([[1, 2, 3, 4]], "int32")
    exported = keras.saving.load_model(export / "model.keras").predict({"x": x}, verbose=0)["answer"]
    assert np.array_equal(exported, result.network.predict({"x": x}, verbose=0)["answer"])
    encoder = keras.saving.load_model(export / "additional" / "encoder" / "model.keras")
    assert encoder.predict({"x": x}, verbose=0)["code"].shape == (1, 32)
    assert (export / "additional" / "encoder" / "serve" / "saved_model.pb").exists()


class Untrained(Line):
    """Predicts with a layer that nothing trains."""

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        return {"sum": keras.layers.Dense(1, name="new")(inputs["x"])}


def test_a_prediction_network_with_untrained_weights_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"weights that are never trained \(new/kernel, new/bias\)"):
        train(small(model=Untrained()))


class NotForXla(Line):
    """Uses an operation that XLA does not know."""

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        import tensorflow as tf

        ops_on_host = tf.numpy_function(lambda x: x, [outputs["sum"]], tf.float32)
        return {"mean": tf.reshape(ops_on_host, [-1])[:1][0]}


@tensorflow_only
def test_a_model_that_xla_cannot_compile_trains_without(caplog: pytest.LogCaptureFixture) -> None:
    result = train(small(model=NotForXla(), trainer={"jit_compile": None}))
    assert len(result.history) == 3
    assert "XLA compilation failed" in caplog.text


class Convolving(Line):
    """Custom layer with a convolution."""

    def build(self, inputs: Tensors) -> Tensors:
        rows = keras.layers.Reshape((2, 1))(inputs["x"])
        inner = keras.Sequential([keras.layers.Conv1D(4, 2), keras.layers.Flatten()])
        return {"sum": keras.layers.Dense(1, name="add")(inner(rows))[:, 0]}


@tensorflow_only
@pytest.mark.parametrize(("model", "is_compiled"), [(Line(), True), (Convolving(), False)])
def test_xla_is_disabled_for_convolutions_on_cpu(
    model: Line, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []

    def noted(self: keras.Model, *args: Any, **kwargs: Any) -> None:
        chosen.append(kwargs["jit_compile"])
        raise KeyboardInterrupt  # the training itself is not of interest

    monkeypatch.setattr(keras.Model, "compile", noted)
    with pytest.raises(KeyboardInterrupt):
        train(small(model=model, trainer={"epochs": 1, "jit_compile": None}))
    assert chosen == [is_compiled]


@tensorflow_only
def test_a_debugger_can_step_through_a_training() -> None:
    seen = []

    class Looks(Line):
        def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
            seen.append(float(ops.sum(outputs["sum"])))  # only eager tensors have a value
            return super().loss(inputs, targets, outputs)

    train(small(model=Looks(), trainer={"force_eager": True, "epochs": 1, "sanity_check": True, "jit_compile": None}))
    assert len(seen) == 2 + 1 + 12 + 4  # two sizes of batches, the sanity check, the steps, the validation


# The export without us.


@pytest.mark.slow
def test_an_export_predicts_the_same_in_a_process_with_tensorflow_alone(
    finished: tuple[Small, TrainResult], tmp_path: Path
) -> None:
    scenario, result = finished
    x = np.random.default_rng(0).random((5, 2), dtype="float32")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, tensorflow as tf;"
        f"model = tf.saved_model.load('{folder_of(scenario)}/export/serve');"
        f"y = model.signatures['serving_default'](x=np.load('{tmp_path}/x.npy'))['sum'];"
        f"np.save('{tmp_path}/y.npy', y); assert 'tfaip_like' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    expected = result.network.predict({"x": x}, verbose=0)["sum"]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-6)


def test_a_scenario_made_in_python_is_checked() -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        train(small(trainer={"epochs": 0}))
    with pytest.raises(UsageError, match="Scenario.data is required"):
        train(Scenario(trainer=Trainer(epochs=1)))  # type: ignore[call-arg]


# Found by readers and first users.


class Same(Data):
    """An input and a target of one name, as autoencoders have."""

    inputs = {"x": Spec(())}
    targets = {"x": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample]:
        return ArraySource({"x": np.zeros(64, "float32")}, {"x": np.full(64, 5.0, "float32")})


class Identity(Model):
    """Its input, and a weight to train."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] + 0.0 * keras.layers.Dense(1)(inputs["x"][:, None])[:, 0]}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (targets["x"] - outputs["y"]) ** 2}


def test_a_target_never_takes_the_place_of_an_input_of_its_name() -> None:
    row = train(small(data=Same(), model=Identity(), evaluator=None)).history[0]
    assert row["loss"] == row["val_loss"] == 25.0


def test_a_second_training_in_a_process_has_the_same_paths_of_weights() -> None:
    optimizer = SGD(weight_decay=0.1, exclude_from_weight_decay=["^add/bias", "^hidden/bias"])
    scenario = small(optimizer=optimizer, trainer={"epochs": 1})
    paths = [[weight.path for weight in train(scenario).network.weights] for _ in range(2)]
    assert paths[0] == paths[1]


@pytest.mark.parametrize("best", [("val_loss", "minimum"), "val_loss", ("val_loss",)])
def test_an_invalid_best_is_rejected_when_the_class_is_defined(best: Any) -> None:
    with pytest.raises(TypeError, match=r'expected a pair like \("val_accuracy", "max"\)'):
        type("Wrong", (Line,), {"best": best, "__module__": __name__})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"loss": 0.0}, "'loss' is already a loss or metric of the model"),
        ({"error": 0.0}, "'error' is already a loss or metric of the model"),
        (None, "returned a NoneType; it must return"),
        (0.5, "returned a float; it must return"),
        ({"f1": "high"}, "'f1' is 'high'; expected a number"),
    ],
)
def test_evaluator_results_are_validated(returned: Any, message: str) -> None:
    class Wrong(Largest):
        def evaluate(self, samples: Any) -> Any:
            return returned

    with pytest.raises(UsageError, match=rf"Wrong.evaluate:? {message}"):
        train(small(evaluator=Wrong(), trainer={"epochs": 1}))


def test_a_processor_cannot_change_the_source() -> None:
    class InPlace(Noise):
        def process(self, sample: Sample, random: np.random.Generator) -> Sample:
            sample.inputs["x"] += 1
            return sample

    with pytest.raises(ValueError, match="read-only"):
        train(small(data=Points(processors=[InPlace()])))


def test_values_near_their_type_given_in_python_are_converted(tmp_path: Path) -> None:
    scenario = small()
    trainer = Trainer(epochs=1.0, output_dir=str(tmp_path / "run"), random_seed=7)  # type: ignore[arg-type]
    train(dataclasses.replace(scenario, trainer=trainer))
    assert read_param_file(tmp_path / "run" / "trainer_params.json")["trainer"]["epochs"] == 1  # type: ignore[index,call-overload]


def test_the_logged_rate_is_the_one_the_epoch_ended_with() -> None:
    schedule = PiecewiseConstant(lr=0.1, boundaries=[1.0, 2.0], factors=[0.1, 0.01])
    assert [row["lr"] for row in train(small(learning_rate=schedule)).history] == [0.1, 0.01, 0.001]


def test_a_metric_object_of_keras_is_rejected_with_the_function_to_use() -> None:
    class WithObject(Line):
        def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
            return {"mse": keras.metrics.MeanSquaredError()}

    with pytest.raises(UsageError, match="'mse' is a metric object; return it from `make_metrics`"):
        train(small(model=WithObject()))


def test_a_wrong_name_in_a_loss_lists_the_right_ones() -> None:
    class WrongName(Line):
        def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
            return {"square": outputs["logits"]}

    with pytest.raises(KeyError) as raised:
        train(small(model=WrongName()))
    assert raised.value.__notes__ == ["Available: inputs x; targets y; outputs sum."]


def test_a_finished_training_releases_its_data() -> None:
    sources: list[weakref.ref[Any]] = []

    class Watched(Points):
        def source(self, mode: Mode) -> Sequence[Sample] | None:
            source = super().source(mode)
            assert source is not None
            sources.append(weakref.ref(source))
            return source

    train(small(data=Watched()))
    gc.collect()
    assert [source() for source in sources] == [None, None]


@pytest.mark.slow
@tensorflow_only
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_finished_training_releases_its_graphs(tmp_path: Path, precision: str) -> None:
    def graphs_after_training(name: str) -> int:
        train(small(tmp_path / name, trainer={"precision": precision, "epochs": 1}))
        gc.collect()
        return sum(isinstance(value, FuncGraph) for value in gc.get_objects())

    assert graphs_after_training("second") == graphs_after_training("first")


def test_two_trainings_never_share_a_folder(tmp_path: Path) -> None:
    folder = OutputDir(tmp_path / "run")
    with lock_output_dir(folder), pytest.raises(UsageError, match="another process is training in this directory"):
        train(small(tmp_path / "run"))
    train(small(tmp_path / "run"))


@pytest.mark.slow
def test_a_script_prints_its_progress_unless_logging_is_set_up(tmp_path: Path) -> None:
    code = f"""
import logging
from small import small
from tfaip_like import train

train(small(trainer={{"epochs": 1}}))
logging.basicConfig(filename="{tmp_path}/log", level="INFO")
train(small(trainer={{"epochs": 2}}))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "epoch 1/1: loss" in done.stderr
    assert "/2" not in done.stderr
    log = (tmp_path / "log").read_text()
    assert "epoch 2/2: loss" in log
    assert "epoch 1/1" not in log


def test_an_untracked_scenario_is_kept_with_the_run(quick_run: Run, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x", *words], check=True)

    git("init", "-q")
    git("config", "color.ui", "always")
    (tmp_path / "helper.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (tmp_path / "helper.py").write_text("a = 2\n")
    (tmp_path / "mine.py").write_text("from small import Small\nclass Mine(Small):\n    pass\n")
    words = ["--trainer.epochs", 1, "--trainer.output_dir", "run"]
    tests = {"PYTHONPATH": str(Path(__file__).parent)}
    done = quick_run("train-scenario", "mine.py", *words, cwd=tmp_path, environment=tests)
    assert done.returncode == 0, done.stderr
    diff = (tmp_path / "run" / "git.diff").read_text()
    assert "+a = 2" in diff
    assert "+class Mine(Small):" in diff
    assert "\x1b" not in diff
