"""Several devices share each batch. Parts of the processor stand in for GPUs, which may not be here.

TensorFlow divides the processor only before it computes anything, so the trainings run in a separate process.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import slow
from small import Line, Points, small
from stopping import RaggedPoints, copy_as_killed, differences
from test_layer_losses import WithLosses

from tfaip_like import ArraySource, Mode, Model, Tensors, UsageError, ops
from tfaip_like._runs.output_dir import NONDETERMINISTIC_COLUMNS
from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like._training.devices import Devices
from tfaip_like._training.training import run_training
from tfaip_like.optimizers import SGD, AdamW
from tfaip_like.params._tree import validate_params
from tfaip_like.schedules import Constant
from tfaip_like.settings import Resume

ONE = Devices({}, 2, 2)
TWO = Devices({0: "half a processor", 1: "half a processor"}, 2, 2, kind="CPU")

Call = Callable[..., Any]


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    weights: list[np.ndarray[Any, Any]]
    last: dict[str, float]
    """Of the history."""


def trained(devices: Devices, changes: dict[str, Any], resume: Resume | None = None) -> Trained:
    result = run_training(validate_params(small(**changes)), devices, resume)
    last = {name: value for name, value in result.history[-1].items() if name not in NONDETERMINISTIC_COLUMNS}
    return Trained([np.asarray(weight) for weight in result.network.get_weights()], last)


def create_logical_cpus() -> None:
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Call a function where there are two devices."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=create_logical_cpus) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def assert_same(one: Trained, two: Trained, rtol: float = 1e-4) -> None:
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=2e-6)
    assert two.last == pytest.approx(one.last, rel=rtol)


class Embedded(Model):
    """Has sparse gradients, a penalty of what a layer gives, and a weight without use."""

    def build(self, inputs: Tensors) -> Tensors:
        numbers = ops.cast(inputs["x"] * 9, "int32")
        vectors = keras.layers.Embedding(10, 3, activity_regularizer=keras.regularizers.L2(0.1))(numbers)
        flat = keras.layers.Flatten()(vectors)
        return {"sum": keras.layers.Dense(1)(flat)[:, 0], "unused": keras.layers.Dense(1)(flat)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        error = targets["y"] - outputs["sum"]
        return {"square": error**2, "of_all": ops.mean(ops.abs(error))}


class Recurrent(Line):
    """Reads sequences."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1)(keras.layers.GRU(3)(inputs["x"][:, :, None]))[:, 0]}


class NotForXla(Line):
    """Uses an operation that XLA does not know."""

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        import tensorflow as tf

        return {"mean": tf.reshape(tf.numpy_function(np.mean, [outputs["sum"]], tf.float32), ())}


ONE_EPOCH = {"epochs": 1, "val_every_n": 0}
EVERYTHING: dict[str, Any] = {
    "model": Line(dropout=0.0, regularization=0.01),
    "optimizer": AdamW(weight_decay=0.01, clip_global_norm=0.1),
    "learning_rate": Constant(lr=0.01, warmup_epochs=1.0),
}
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {**EVERYTHING, "trainer": {"calc_ema": 0.5, "accumulate_steps": 3}},
    "xla, bad steps left out": {
        **EVERYTHING,
        "data": Points(nan_at=42),
        "trainer": {"calc_ema": 0.5, "accumulate_steps": 3, "jit_compile": True, "on_nan": "skip", **ONE_EPOCH},
    },
    "eager": {**EVERYTHING, "trainer": {"accumulate_steps": 2, "force_eager": True, **ONE_EPOCH}},
    "not for XLA": {"model": NotForXla(dropout=0.0), "trainer": {"jit_compile": None, **ONE_EPOCH}},
    "mixed precision": {"model": Line(dropout=0.0), "trainer": {"precision": "mixed_bfloat16", **ONE_EPOCH}},
    "sparse gradients": {"model": Embedded(), "optimizer": SGD(clip_global_norm=0.1), "trainer": ONE_EPOCH},
    "losses of layers": {"model": WithLosses(kind="nested"), "trainer": {"accumulate_steps": 2, **ONE_EPOCH}},
    # Of three, two and single samples: parts of other sizes, and parts without any.
    "sequences in small batches": {
        "data": RaggedPoints(),
        "model": Recurrent(),
        "train": {"batch_size": 4, "max_batch_length": 7},
        "trainer": {"accumulate_steps": 2, **ONE_EPOCH},
    },
}


@pytest.mark.parametrize("name", [slow(name) for name in SCENARIOS])
def test_two_devices_give_the_results_of_one(name: str, call: Call) -> None:
    one, two = (call(trained, devices, SCENARIOS[name]) for devices in (ONE, TWO))
    assert_same(one, two, rtol=2e-2 if name == "mixed precision" else 1e-4)


class Normalised(Line):
    """Normalises its inputs."""

    def build(self, inputs: Tensors) -> Tensors:
        normal = keras.layers.BatchNormalization(momentum=0.5, name="normal")(inputs["x"])
        return {"sum": keras.layers.Dense(1, name="add")(normal)[:, 0]}


@pytest.mark.slow
def test_each_device_normalises_its_part_and_the_statistics_are_the_means(call: Call) -> None:
    same: dict[str, Any] = {"model": Normalised(), "optimizer": SGD(), "trainer": ONE_EPOCH}
    two = call(trained, TWO, {**same, "train": {"shuffle": False, "batch_size": 50}})
    parts = {**ONE_EPOCH, "accumulate_steps": 2}
    halves = call(trained, ONE, {**same, "train": {"shuffle": False, "batch_size": 25}, "trainer": parts})
    # Gradients are those of halves one after another.
    for number in (0, 1, 4, 5):
        np.testing.assert_allclose(two.weights[number], halves.weights[number], rtol=1e-5, atol=1e-6)
    source = Points().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    mean, variance = np.zeros(2), np.ones(2)
    for step in source.inputs["x"].reshape(2, 2, 25, 2):
        mean, variance = (mean + step.mean((0, 1))) / 2, (variance + step.var(1).mean(0)) / 2
    np.testing.assert_allclose(two.weights[2], mean, rtol=1e-5)
    np.testing.assert_allclose(two.weights[3], variance, rtol=1e-5)


class Dropped(Line):
    """Report what dropout leaves of ones."""

    def build(self, inputs: Tensors) -> Tensors:
        ones = ops.tile(ops.ones_like(inputs["x"]), (1, 500))
        return {**super().build(inputs), "left": ops.mean(keras.layers.Dropout(0.5)(ones), axis=1)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"left": outputs["left"], "left_square": outputs["left"] ** 2}


@pytest.mark.slow
def test_devices_drop_different_values_and_always_the_same_ones(call: Call) -> None:
    same: dict[str, Any] = {"model": Dropped(), "trainer": ONE_EPOCH}
    # Of two samples each device has one. Their masks differ if what is left has a variance.
    batch = {"data": Points(samples=2), "train": {"batch_size": 2}}
    last = call(trained, TWO, {**same, **batch}).last
    assert last["left_square"] > last["left"] ** 2 + 1e-5
    once, again = (call(trained, TWO, same) for _ in range(2))
    assert once.last == again.last
    assert all((a == b).all() for a, b in zip(once.weights, again.weights, strict=True))


@pytest.mark.slow
def test_a_run_on_two_devices_resumes_exactly(call: Call, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "model": Normalised(),
        "trainer": {"epochs": 2, "checkpoint_every": "5steps", "keep_checkpoints": 100, "calc_ema": 0.9},
    }
    straight = tmp_path / "straight"
    call(trained, TWO, {**changes, "output_dir": straight})
    copy = copy_as_killed(straight, tmp_path / "copy", Position(0, 10))
    call(trained, TWO, {**changes, "output_dir": copy}, Resume())
    assert differences(straight, copy) == []


def test_a_batch_that_cannot_be_divided_is_rejected() -> None:
    with pytest.raises(UsageError) as error:
        run_training(small(train={"batch_size": 7}), Devices({0: "H100", 1: "H100"}, 2, 2))
    assert str(error.value) == "--train.batch_size 7 must be divisible by the number of GPUs (2), e.g. 8"
