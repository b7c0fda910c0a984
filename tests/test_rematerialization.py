"""Rematerialization (`--trainer.remat`): the same training with less memory."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
from conftest import slow
from small import Line, small

from tfaip_like import Tensors, UsageError, context, ops, train
from tfaip_like._training.device_usage import DeviceUsage

IS_JAX, IS_TORCH = (keras.backend.backend() == name for name in ("jax", "torch"))


class Block(keras.layers.Layer):
    """Layer with states, random numbers and losses, without an argument `training`."""

    def __init__(self, units: int):
        super().__init__()
        self.dense = keras.layers.Dense(units, activation="tanh", activity_regularizer="l2")
        self.dropout = keras.layers.Dropout(0.5)
        self.seeded_dropout = keras.layers.Dropout(0.5, seed=3)
        self.norm = keras.layers.BatchNormalization()
        self.out = keras.layers.Dense(2)

    def build(self, shape: tuple[int, ...]) -> None:
        self.dense.build(shape)
        self.norm.build((*shape[:-1], self.dense.units))
        self.out.build((*shape[:-1], self.dense.units))

    def call(self, x: Any) -> Any:
        hidden = self.seeded_dropout(self.dropout(self.norm(self.dense(x))))
        self.add_loss(0.01 * ops.mean(hidden**2))
        return x + ops.cast(0.01 * context.step, x.dtype) * self.out(hidden)


class Blocks(Line):
    """Two blocks."""

    units: int = 8
    """Units of each."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = Block(self.units)(Block(self.units)(inputs["x"]))
        return {"sum": keras.layers.Dense(1, name="add", dtype="float32")(hidden)[:, 0]}


class Deep(Line):
    """Six blocks of four layers."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = inputs["x"]
        for number in range(6):
            layers = [keras.layers.Dense(units, activation="tanh") for units in (2000, 200, 2000)]
            block = keras.Sequential([*layers, keras.layers.Dense(2)], name=f"block_{number}")
            hidden = keras.layers.Add()([hidden, block(hidden)])
        return {"sum": keras.layers.Dense(1, name="add", dtype="float32")(hidden)[:, 0]}


class Masked(Line):
    """A recurrent layer that gets a mask."""

    def build(self, inputs: Tensors) -> Tensors:
        sequence = keras.layers.Masking(0.5)(keras.layers.RepeatVector(3)(inputs["x"]))
        hidden = keras.layers.LSTM(4, dropout=0.5, name="lstm")(sequence)
        return {"sum": keras.layers.Dense(1)(hidden)[:, 0]}


def trained(remat: str | None, model: Line, **trainer: Any) -> Any:
    settings = {"epochs": 2, "remat": remat, "jit_compile": IS_JAX, **trainer}
    result = train(small(model=model, trainer=settings))
    return result.history[-1], result.network.get_weights()


@pytest.mark.parametrize(
    ("model", "pattern", "trainer"),
    [
        (Blocks(), "block.*", {}),
        slow(Blocks(), ".*/dense|.*/.*dropout", {"accumulate_steps": 2}),
        slow(Blocks(), ".*", {"precision": "mixed_bfloat16", "on_nan": "skip"}),
        slow(Masked(), "lstm", {}),
    ],
)
def test_training_does_not_change(model: Line, pattern: str, trainer: dict[str, Any]) -> None:
    if IS_TORCH and isinstance(model, Masked):
        with pytest.raises(UsageError, match="lstm has recurrent dropout, .* on PyTorch"):
            trained(pattern, model, **trainer)
        return
    expected_row, expected = trained(None, model, **trainer)
    row, weights = trained(pattern, model, **trainer)
    for name in ("loss", "error", "val_loss"):
        assert row[name] == pytest.approx(expected_row[name], rel=1e-4)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not IS_JAX, reason="only JAX reports the memory of its programs")
def test_a_step_needs_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(DeviceUsage, "_log_estimate", lambda self: sizes.append(self._cost.temporary_bytes))
    for remat in (None, "block.*"):
        train(
            small(model=Deep(), train={"batch_size": 1000}, trainer={"epochs": 1, "jit_compile": True, "remat": remat})
        )
    assert sizes[1] < 0.5 * sizes[0]


def test_the_layers_are_logged_and_those_in_them_are_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        trained("block.*", Blocks(), epochs=1)
    assert "rematerialized: block, block_1" in caplog.messages


def test_a_pattern_without_a_match_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"Trainer.remat blok: no layer matches; closest: block"):
        trained("blok", Blocks())
