"""`Model.train_step`: several losses and optimizers, compiled and resumed like any training."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import REPOSITORY, Run, slow
from small import Line, small
from stopping import Position, copy_as_killed, differences

from scenarios.gan import GAN, DigitGAN, OfGAN
from tfaip_like import Tensors, UsageError, load_predictor, ops, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.modeling import TrainingBatch, TrainingStep
from tfaip_like.optimizers import SGD, Adam, Optimizers
from tfaip_like.schedules import Constant, CosineDecay
from tfaip_like.settings import Device, Resume, Trainer

BACKEND = keras.backend.backend()
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")


class SameStep(Line):
    """Minimizes its loss as without `train_step`."""

    def train_step(self, batch: TrainingBatch, step: TrainingStep) -> Tensors:
        def loss() -> Any:
            return ops.mean(self.loss(batch.inputs, batch.targets, step.network(batch.inputs, training=True))["square"])

        metrics = self.metrics(batch.inputs, batch.targets, step.network(batch.inputs))
        return {"square": step.minimize(loss, step.network), **metrics}


def gan(folder: Path, **changes: Any) -> DigitGAN:
    """Return a short training with all that has a state."""
    trainer = Trainer(
        epochs=2, checkpoint_every="10steps", keep_checkpoints=100, calc_ema=0.9, random_seed=1, output_dir=folder
    )
    settings: dict[str, Any] = {
        "model": GAN(units=8, discriminator_steps=2),
        "optimizers": OfGAN(generator=Adam(schedule=CosineDecay(lr=1e-3), clip_norm=1.0)),
        "train": TrainLoaderSettings(batch_size=64),
        "device": Device(backend=BACKEND),
        **changes,
    }
    trainer = dataclasses.replace(trainer, **settings.pop("trainer", {}))
    return DigitGAN(trainer=trainer, **settings)


@pytest.mark.parametrize("accumulate_steps", [1, slow(3)])
def test_a_step_that_minimizes_the_loss_gives_the_weights_of_a_training_without_it(accumulate_steps: int) -> None:
    trainer = {"epochs": 2, "accumulate_steps": accumulate_steps}
    rows = [
        train(small(model=model, device=Device(backend=BACKEND), trainer=trainer)).history
        for model in (Line(dropout=0.0), SameStep(dropout=0.0))
    ]
    for plain, own in zip(*rows, strict=True):
        assert own["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-5)
        assert own["loss"] == pytest.approx(plain["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_a_killed_training_resumes_with_the_same_bits(accumulate_steps: int, tmp_path: Path) -> None:
    trainer = {"accumulate_steps": accumulate_steps}
    train(gan(tmp_path / "run", trainer=trainer))
    copy = copy_as_killed(tmp_path / "run", tmp_path / "copy", Position(0, 10))
    train(gan(copy, trainer=trainer), Resume())
    assert differences(tmp_path / "run", copy) == []
    assert load_predictor(copy).one({"noise": np.zeros(16, np.float32)}).outputs["image"].shape == (8, 8)
    assert (copy / "summaries" / "val" / "drawn.png").is_file()


@pytest.mark.slow
def test_the_number_of_steps_per_execution_changes_no_result(tmp_path: Path) -> None:
    rows = [
        train(gan(tmp_path / str(number), trainer={"steps_per_execution": number})).history[-1]["val_loss"]
        for number in (1, 7)
    ]
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)


class Polynomial(Line):
    """Adds what `step.gradient` finds to its loss."""

    def train_step(self, batch: TrainingBatch, step: TrainingStep) -> Tensors:
        x = batch.inputs["x"]
        slope = step.gradient(lambda x: x**3, x)
        twice = step.gradient(lambda x: step.gradient(lambda x: x**3, x), x)
        slope = slope + step.gradient(lambda x: ops.ones_like(x), x)  # which does not depend on x
        outputs = step.network(batch.inputs)
        step.minimize(lambda: ops.mean(step.network(batch.inputs)["sum"]) * 0.0, step.network)
        metrics = dict.fromkeys(self.metrics(batch.inputs, batch.targets, outputs), 0.0)
        return {"square": ops.max(ops.abs(slope - 3 * x**2)) + ops.max(ops.abs(twice - 6 * x)), **metrics}


def test_gradients_can_be_nested() -> None:
    rows = train(small(model=Polynomial(), device=Device(backend=BACKEND), trainer={"epochs": 1})).history
    assert rows[0]["loss"] == pytest.approx(0, abs=1e-5)


class Poisoned(GAN):
    """Its third step is non-finite."""

    def train_step(self, batch: TrainingBatch, step: TrainingStep) -> Tensors:
        generator = step.network.get_layer("generator")
        values = dict(super().train_step(batch, step))
        from tfaip_like import context

        poison = ops.where(context.step == 3, float("nan"), 1.0)
        loss = step.minimize(lambda: ops.mean(generator(batch.inputs["noise"])) * poison, generator, "generator")
        return {**values, "generator": loss}


@pytest.mark.slow
def test_a_non_finite_step_stops_the_training_or_is_skipped(tmp_path: Path) -> None:
    model = Poisoned(units=8)
    with pytest.raises(Exception, match=r"(?i)step 3"):
        train(gan(tmp_path / "stop", model=model))
    settings = {"on_nan": "skip", "checkpoint_every": "1steps", "epochs": 1}
    rows = train(gan(tmp_path / "skip", model=model, trainer=settings)).history
    assert np.isfinite(rows[-1]["loss"])
    saved = list_checkpoints(OutputDir(tmp_path / "skip").checkpoints)
    states = {checkpoint.position.step: checkpoint.read().arrays for checkpoint in saved}
    changed = {name for name in states[2] if states[2][name].tobytes() != states[3][name].tobytes()}
    trained = {name for name in changed if name.startswith(("network:", "optimizer:"))}
    assert not trained - {"network:step_seed", "optimizer:steps/iteration"}, "the third step is undone as a whole"
    assert any(states[3][name].tobytes() != states[4][name].tobytes() for name in states[3] if "kernel" in name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizers": Optimizers()}, "names no optimizer"),
        ({"trainer": {"precision": "mixed_float16"}}, "mixed_bfloat16"),
        ({"optimizer": SGD(schedule=Constant())}, "set DigitGAN.learning_rate"),
    ],
)
def test_what_a_step_cannot_follow_is_refused(changes: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((UsageError, CodeError, ValueError), match=message):
        train(gan(tmp_path / "run", **changes))


@only_tensorflow
def test_the_flag_of_the_only_optimizer_is_refused_with_named_ones(quick_run: Run) -> None:
    done = quick_run("train-scenario", "scenarios.gan", "--optimizer", "SGD")
    assert done.returncode == 2
    assert "--optimizers.generator" in done.stderr


@only_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_it_works_on_other_backends(backend: str) -> None:
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", __file__],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
