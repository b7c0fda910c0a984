"""Padding of batches of variable lengths to a few shapes, for which the step is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import Line, small
from stopping import copy_as_killed, differences, read_last_state

from tfaip_like import Data, Mode, Sample, Spec, Tensors, ops
from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like._training.devices import configure_devices
from tfaip_like._training.length_padding import LengthPadding, choose_padding, round_up_length
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.training import run_training
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.modeling._network import build_networks
from tfaip_like.settings import Resume, Trainer


@given(st.integers(1, 100_000))
def test_lengths_are_rounded_up_to_four_per_power_of_two(length: int) -> None:
    padded = round_up_length(length)
    assert padded == 8 if length <= 8 else length <= padded < 1.25 * length + 1
    assert round_up_length(padded) == padded
    power = 2 ** (padded.bit_length() - 1)
    assert padded % (power // 4) == 0


def test_only_variable_axes_are_padded_with_the_value_of_their_spec() -> None:
    specs = {"a": Spec((None, 3), padding=-1), "b": Spec((2,)), "c": Spec((None, None), "int32", padding=7)}
    arrays: dict[str, Any] = {
        "a": np.ones((2, 9, 3), "float32"),
        "b": np.ones((2, 2), "float32"),
        "c": np.ones((2, 8, 17), "int32"),
    }
    padded = LengthPadding(specs, {})(Batch(arrays, {})).inputs

    assert {name: array.shape for name, array in padded.items()} == {"a": (2, 10, 3), "b": (2, 2), "c": (2, 8, 20)}
    assert (padded["a"][:, 9:] == -1).all()
    assert (padded["c"][:, :, 17:] == 7).all()
    assert padded["c"].sum() == 2 * 8 * (17 + 3 * 7)


class Steps(Data):
    """Sequences of 9 to 30 steps, and the mean of their first value."""

    inputs = {"x": Spec((None, 2))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        if mode is not Mode.TRAIN:
            return None
        random = np.random.default_rng(0)
        rows = [random.random((length, 2), dtype="float32") + 0.1 for length in random.integers(9, 31, 64)]
        return [Sample({"x": row}, {"y": row[:, 0].mean()}) for row in rows]


class Masked(Line):
    """Recurrent network behind a mask."""

    dropout: float = 0.0
    normalization: bool = False
    """Normalize over batch and time."""

    def build(self, inputs: Tensors) -> Tensors:
        x = keras.layers.Masking()(inputs["x"])
        if self.normalization:
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.GRU(4, dropout=self.dropout)(x)
        return {"sum": keras.layers.Dense(1, name="add")(keras.layers.Dropout(self.dropout)(x))[:, 0]}


class NoMask(Masked):
    """Its network sees the padding."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(inputs["x"]))[:, 0]}


class UnmaskedStatistics(Masked):
    """Its statistics, which only training uses, see the padding."""

    def build(self, inputs: Tensors) -> Tensors:
        outputs = super().build(inputs)
        seen = keras.layers.BatchNormalization()(inputs["x"])
        return {"sum": outputs["sum"] + 0 * keras.layers.GlobalMaxPooling1D()(seen)[:, 0]}


class LossOfLength(Masked):
    """Its loss depends on the length of the batch."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": super().loss(inputs, targets, outputs)["square"] + ops.shape(inputs["x"])[1] * 0.01}


class OutputPerStep(Masked):
    """It has an output for each step."""

    def build(self, inputs: Tensors) -> Tensors:
        steps = keras.layers.GRU(4, return_sequences=True)(keras.layers.Masking()(inputs["x"]))
        return {**super().build(inputs), "steps": steps}


class FixedLength(Masked):
    """Its loss fails for other lengths."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        if inputs["x"].shape[1] is not None and inputs["x"].shape[1] > 30:
            raise ValueError("too long")
        return super().loss(inputs, targets, outputs)


def chooses_padding(model: Line, **trainer: Any) -> bool:
    data, loader = Steps(), TrainLoaderSettings(batch_size=8)
    opened = open_training(data, data.source(Mode.TRAIN), loader, None, 1)
    example = opened.batch(0)
    training_model = TrainingModel(build_networks(model, data).training, model, example)
    return choose_padding(training_model, Trainer(**{"epochs": 100, **trainer}), opened, example)


@pytest.mark.parametrize(
    "model",
    [Masked(), Masked(dropout=0.5), Masked(normalization=True), OutputPerStep()],
    ids=lambda m: type(m).__name__,
)
def test_batches_are_padded_if_the_network_masks_padding(model: Line) -> None:
    assert chooses_padding(model)


@pytest.mark.parametrize(
    "model", [NoMask(), UnmaskedStatistics(), LossOfLength(), FixedLength()], ids=lambda m: type(m).__name__
)
def test_batches_keep_their_lengths_if_padding_changes_anything(model: Line) -> None:
    assert not chooses_padding(model)


@pytest.mark.parametrize(
    "flags",
    [
        {"jit_compile": False},
        {"jit_compile": None, "force_eager": True},
        pytest.param(
            {"epochs": 10}, marks=pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX always compiles")
        ),
    ],
)
def test_batches_keep_their_lengths_if_nothing_is_compiled(flags: dict[str, Any]) -> None:
    assert not chooses_padding(Masked(), **flags)


def test_the_noise_of_layers_is_on_again_after_the_choice() -> None:
    model = Masked(dropout=0.5)
    data = Steps()
    opened = open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(batch_size=8), None, 1)
    network = build_networks(model, data).training
    training_model = TrainingModel(network, model, opened.batch(0))
    assert choose_padding(training_model, Trainer(epochs=100), opened, opened.batch(0))

    rates = [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    recurrent = [layer.dropout for layer in network.layers if isinstance(layer, keras.layers.GRU)]
    assert (rates, recurrent) == ([0.5], [0.5])


def train_steps(output_dir: Path | None, resume: Resume | None = None, **changes: Any) -> Any:
    trainer = {"jit_compile": True, "epochs": 2, "checkpoint_every": "3steps", "keep_checkpoints": 10}
    if output_dir is None:
        del trainer["checkpoint_every"], trainer["keep_checkpoints"]
    settings = {**trainer, **changes.pop("trainer", {})}
    scenario = small(output_dir, data=Steps(), evaluator=None, trainer=settings, **changes)
    return run_training(scenario, configure_devices(scenario.device), resume)


@pytest.mark.slow
def test_padding_does_not_change_the_losses() -> None:
    padded = train_steps(None, model=Masked()).history
    exact = train_steps(None, model=Masked(), trainer={"jit_compile": False}).history

    for row, other in zip(padded, exact, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


@pytest.mark.slow
def test_a_padded_run_resumes_with_the_same_bits(tmp_path: Path) -> None:
    model = Masked(dropout=0.3)
    train_steps(tmp_path / "a", model=model)
    copy_as_killed(tmp_path / "a", tmp_path / "b", Position(1, 3))
    train_steps(tmp_path / "b", Resume(), model=model)

    assert read_last_state(tmp_path / "b").state.pads_lengths
    assert not differences(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX always compiles")
def test_the_choice_is_kept_on_resume(tmp_path: Path) -> None:
    automatic = {"jit_compile": None, "epochs": 1}
    train_steps(tmp_path / "a", model=Masked(), trainer=automatic)
    assert not read_last_state(tmp_path / "a").state.pads_lengths

    train_steps(tmp_path / "a", Resume(), model=Masked(), trainer={**automatic, "epochs": 2, "jit_compile": True})
    assert not read_last_state(tmp_path / "a").state.pads_lengths
