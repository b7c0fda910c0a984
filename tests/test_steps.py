"""Training steps: averages of weights, several batches in one, precision, non-finite steps."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import slow
from small import Line, Noise, Points, small
from stopping import RaggedPoints, read_last_state

from tfaip_like import ArraySource, Mode, Sample, Tensors, TrainingError, UsageError, ops, train
from tfaip_like.optimizers import SGD, AdamW
from tfaip_like.schedules import Constant


def weights(result: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(weight) for weight in result.network.get_weights()]


def arrays_of(source: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    assert isinstance(source, ArraySource)
    return source.inputs["x"], source.targets["y"]


class Affine(Line):
    """A line without hidden layers: its gradient is known on paper."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1, kernel_initializer="zeros", name="add")(inputs["x"])[:, 0]}


def reference_training(
    steps: int, batch: int, lr: float, decay: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return weights and their averages after this many steps of gradient descent, in plain numpy."""
    x, y = arrays_of(Points().source(Mode.TRAIN))
    w, b = np.zeros(2), 0.0
    mean = np.zeros(3)
    rows = np.arange(steps * batch) % len(x)
    for step in range(steps):
        part = rows[step * batch : (step + 1) * batch]
        error = x[part] @ w + b - y[part]
        w, b = w - lr * 2 * (error @ x[part]) / batch, b - lr * 2 * error.mean()
        mean = decay * mean + (1 - decay) * np.array([*w, b])
    return np.array([*w, b]), mean


AFFINE: dict[str, Any] = {
    "model": Affine(),
    "optimizer": SGD(),
    "learning_rate": Constant(lr=0.1),
    "train": {"shuffle": False, "batch_size": 8},
}


def test_averages_equal_a_plain_computation_and_are_what_is_validated_and_exported(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", **AFFINE, trainer={"calc_ema": 0.9, "epochs": 2}))
    raw, mean = reference_training(steps=24, batch=8, lr=0.1, decay=0.9)
    arrays = read_last_state(tmp_path / "run").arrays
    kept = {name: value for name, value in arrays.items() if "add" in name and name.startswith("network:")}
    past = [value for name, value in arrays.items() if name.endswith("_past_average")]
    np.testing.assert_allclose(np.concatenate([value.ravel() for value in kept.values()]), raw, rtol=1e-4)
    _, mean_of_past = reference_training(steps=23, batch=8, lr=0.1, decay=0.9)
    np.testing.assert_allclose(np.concatenate([value.ravel() for value in past]), mean_of_past, rtol=1e-4)
    np.testing.assert_allclose(np.concatenate([value.ravel() for value in weights(result)]), mean, rtol=1e-4)
    x, y = arrays_of(Points().source(Mode.EVALUATE))
    error = x @ mean[:2] + mean[2] - y
    assert result.history[-1]["val_loss"] == pytest.approx((error**2).mean(), rel=1e-4)
    assert result.history[-1]["val_largest_error"] == pytest.approx(np.abs(error).max(), rel=1e-4)
    exported = keras.saving.load_model(tmp_path / "run" / "export" / "model.keras")
    np.testing.assert_allclose(exported.get_layer("add").kernel.numpy().ravel(), mean[:2], rtol=1e-4)


def test_the_rate_of_averages_is_computed_from_the_steps_of_an_epoch(caplog: pytest.LogCaptureFixture) -> None:
    from tfaip_like._keras_ext.extended_optimizer import default_ema_momentum

    assert default_ema_momentum(1) == 0.99
    assert default_ema_momentum(100) == pytest.approx(0.75**0.01)
    assert default_ema_momentum(10**6) == 0.99975


@pytest.mark.parametrize("data", [slow(Points()), Points(processors=[Noise()])], ids=["arrays", "processed"])
def test_accumulated_steps_equal_larger_batches(data: Points) -> None:
    """With weight decay, clipping and averages, which must see whole steps."""
    same: dict[str, Any] = {
        "data": data,
        "model": Line(dropout=0.0),
        "optimizer": AdamW(weight_decay=0.01, clip_global_norm=0.1),
        "learning_rate": Constant(lr=0.01, warmup_epochs=1.0),
    }
    large = train(small(**same, train={"batch_size": 24}, trainer={"calc_ema": 0.5}))
    parts = train(
        small(**same, train={"batch_size": 8}, trainer={"calc_ema": 0.5, "accumulate_steps": 3, "jit_compile": None})
    )
    assert len(large.history) == len(parts.history)
    for a, b in zip(weights(large), weights(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
    assert parts.history[-1]["loss"] == pytest.approx(large.history[-1]["loss"], rel=1e-3)
    assert parts.history[-1]["gradient_norm"] == pytest.approx(large.history[-1]["gradient_norm"], rel=1e-3)


class RaggedSum(Line):
    """Adds what is there."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1, name="add")(ops.sum(inputs["x"], axis=1, keepdims=True))[:, 0]}


def test_accumulation_and_averages_work_on_sequences_of_any_length() -> None:
    same: dict[str, Any] = {"data": RaggedPoints(), "model": RaggedSum(), "evaluator": None}
    large = train(small(**same, train={"batch_size": 12}, trainer={"calc_ema": 0.5}))
    parts = train(small(**same, train={"batch_size": 4}, trainer={"calc_ema": 0.5, "accumulate_steps": 3}))
    for a, b in zip(weights(large), weights(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", slow("mixed_bfloat16")])
def test_mixed_precision_trains_with_averages_and_keeps_float32_weights(precision: str, tmp_path: Path) -> None:
    trainer = {"precision": precision, "calc_ema": 0.5, "epochs": 6, "jit_compile": None}
    result = train(small(tmp_path / "run", trainer=trainer, learning_rate=Constant(lr=0.01)))
    assert {weight.dtype.name for weight in weights(result)} == {"float32"}
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    assert keras.config.dtype_policy().name == precision
    train(small(trainer={"epochs": 1}))
    assert keras.config.dtype_policy().name == "float32"


# Non-finite steps.


@pytest.mark.parametrize("steps_per_execution", [slow(1), 12])
def test_a_step_that_is_not_a_number_stops_before_it_spoils_the_weights(
    tmp_path: Path, steps_per_execution: int
) -> None:
    scenario = small(
        tmp_path / "run",
        data=Points(nan_at=42),
        train={"shuffle": False},
        trainer={"steps_per_execution": steps_per_execution, "checkpoint_every": "2steps", "jit_compile": None},
    )
    with pytest.raises(UsageError, match="at epoch 1, step 6"):
        train(scenario)
    last = read_last_state(tmp_path / "run")
    assert all(np.isfinite(array).all() for name, array in last.arrays.items() if not name.startswith("random"))
    folder = tmp_path / "run" / "non_finite" / "step_000006"
    report = json.loads((folder / "batch_0.json").read_text())
    assert report["samples"][2] == "training sample 42 of Points"
    assert report["losses"]["square"][2] == "NaN"
    assert report["gradient_norms"]["hidden/kernel"] == "NaN"
    with np.load(folder / "batch_0.npz") as saved:
        assert np.isnan(saved["targets.y"][2])


class Normalised(Line):
    """Has statistics that a bad batch could spoil."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs["x"]))
        return {"sum": keras.layers.Dense(1, name="add")(hidden)[:, 0]}


class NanInput(Points):
    """Scenario with a non-finite input."""

    def source(self, mode: Mode) -> list[Sample]:
        x, y = arrays_of(super().source(mode))
        x = x.copy()
        if mode is Mode.TRAIN:
            x[42] = np.nan
        return ArraySource({"x": x}, {"y": y})  # type: ignore[return-value]


def test_non_finite_steps_can_be_skipped_without_side_effects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(
            small(
                tmp_path / "run",
                data=NanInput(),
                model=Normalised(),
                train={"shuffle": False},
                trainer={"on_nan": "skip", "steps_per_execution": 5, "calc_ema": 0.5, "jit_compile": None},
            )
        )
    assert "at epoch 1, step 6 (global step 6); step skipped." in caplog.text
    assert "input 'x' of training sample 42" in caplog.text
    assert all(np.isfinite(weight).all() for weight in weights(result))
    assert all(np.isfinite(list(row.values())).all() for row in result.history)
    (iterations,) = [v for name, v in read_last_state(tmp_path / "run").arrays.items() if name.endswith("iteration")]
    assert iterations == 36 - 3


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="relu of NaN is NaN on PyTorch, 0 in its export")
def test_an_epoch_without_any_good_step_has_no_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scenario = small(
        tmp_path / "run", data=NanInput(samples=43), train={"batch_size": 43}, trainer={"on_nan": "skip", "epochs": 2}
    )
    result = train(scenario)
    assert all(np.isnan(row["loss"]) and np.isnan(row["error"]) for row in result.history)
    assert all(np.isfinite(row["val_loss"]) for row in result.history)


def test_skipped_steps_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    train(small(data=NanInput(samples=50), trainer={"on_nan": "skip", "epochs": 1, "samples_per_epoch": 100}))
    assert "epoch 1: skipped 2 of 12 steps" in caplog.text


class NoGradient(Line):
    """Finite loss with a non-finite gradient."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"root": ops.sqrt(outputs["sum"] * 0.0)}


@pytest.mark.parametrize("precision", [slow("float32"), "mixed_float16"])
def test_persistent_nan_gradients_are_not_treated_as_overflow(precision: str) -> None:
    scenario = small(model=NoGradient(), trainer={"precision": precision, "epochs": 20})
    step = 1 if precision == "float32" else 16  # the scale begins at 2 to the power of 15
    with pytest.raises(TrainingError, match=rf"non-finite gradient .*\(global step {step}\)"):
        train(scenario)
