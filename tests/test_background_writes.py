"""best/ and checkpoints are written while the training continues, in order, from the weights of their epoch."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import fill
from small import Line, Points, small

from tfaip_like import ArraySource, Mode, Tensors, TrainingError, context, keras, load_predictor, ops, train
from tfaip_like._keras_ext.snapshots import Buffers
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import read_history, read_metrics
from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._training.exports import ExportWriter
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.variables import capture
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import Networks, build_networks
from tfaip_like.settings import Resume

TIMEOUT_S = 120.0
BEST_EPOCH = 2


class Saving:
    """Lets a layer wait in the export of the best epoch until the next epoch trains."""

    may_continue = threading.Event()
    count = 0


@keras.saving.register_keras_serializable("test_background_writes")
class Waits(keras.layers.Dense):
    """Waits in the second export."""

    def save_own_variables(self, store: Any) -> None:
        Saving.count += 1
        if Saving.count == BEST_EPOCH:
            assert Saving.may_continue.wait(TIMEOUT_S)
        super().save_own_variables(store)


class BestInTheMiddle(Line):
    """The second epoch is the best."""

    best = "val_order", "max"

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": Waits(1)(keras.layers.Dense(8)(inputs["x"]))[:, 0]}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"order": ops.zeros_like(targets["y"]) - ops.abs(context.epoch - BEST_EPOCH)}


class Continues(Callback):
    """Lets the export continue in the epoch after the best."""

    every: str = "1steps"

    def on_step_end(self, run: RunContext, metrics: Any) -> None:
        if run.epoch == BEST_EPOCH and run.step % 12 == 5:
            Saving.may_continue.set()


@pytest.mark.parametrize("averages", [{}, {"calc_ema": 0.9}])
def test_the_best_model_is_written_while_the_next_epoch_trains(tmp_path: Path, averages: dict[str, float]) -> None:
    Saving.may_continue.clear()
    Saving.count = 0
    trainer = {"keep_every_n": 1, "epochs": 3, **averages}
    scenario = small(tmp_path / "run", model=BestInTheMiddle(), callbacks=[Continues()], trainer=trainer)
    train(scenario)
    run = OutputDir(tmp_path / "run")
    assert Run(run).best_metrics["epoch"] == BEST_EPOCH
    weights = read_weights(run)
    x = np.random.default_rng(0).random((5, 2), dtype="float32")
    hidden = x @ weights["dense/kernel"] + weights["dense/bias"]
    expected = (hidden @ weights["waits/kernel"] + weights["waits/bias"])[:, 0]
    assert np.allclose(load_predictor(run.best).outputs({"x": x})["sum"], expected, atol=1e-6)
    shutil.rmtree(run.best)
    train(scenario, Resume())  # writes it from the checkpoint of its epoch, before anything is trained
    restored = read_weights(run)
    assert all(np.array_equal(weights[name], restored[name]) for name in restored)


def read_weights(run: OutputDir) -> dict[str, np.ndarray]:
    with np.load(run.best / "weights.npz") as saved:
        return {name: saved[name] for name in saved.files}


@keras.saving.register_keras_serializable("test_background_writes")
class Changes(keras.layers.Layer):
    """Multiplies by a Python number, which an export keeps as it was."""

    factor = 1.0

    def call(self, x: Any) -> Any:
        return x * Changes.factor


def test_a_later_export_that_differs_does_not_become_the_best(tmp_path: Path) -> None:
    x = keras.Input((2,), name="x")
    network = keras.Model({"x": x}, {"sum": Changes()(keras.layers.Dense(1)(x))[:, 0]})
    network.compile(run_eagerly=True)  # otherwise the network in memory is traced once, as the export is
    run, scenario = OutputDir(tmp_path / "run"), small(tmp_path / "run")
    run.path.mkdir()
    writer = BackgroundWriter(run.path, lambda: None)
    batch = Batch({"x": np.ones((3, 2), "float32")}, {})
    exports = ExportWriter(run, Networks(network, network), scenario, batch, writer)
    exports.verify_current()
    exports.capture_best()
    exports.save_best({"epoch": 1.0})
    writer.wait()
    Changes.factor = 2.0
    exports.capture_best()
    exports.save_best({"epoch": 2.0})
    with pytest.raises(TrainingError, match="outputs differ from the trained network"):
        writer.wait()
    assert Run(run).best_metrics == {"epoch": 1.0}


def open_example() -> Batch:
    source = Points().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    return Batch(*source.rows(slice(0, 4)))


# The thread.


def test_writes_run_in_the_order_of_their_submission(tmp_path: Path) -> None:
    writer, done = BackgroundWriter(tmp_path, lambda: None), []
    for number in range(20):
        writer.submit(lambda number=number: done.append(number))
    writer.wait()
    assert done == list(range(20))


def test_waiting_for_room_leaves_the_number_of_writes_that_may_be_pending(tmp_path: Path) -> None:
    writer, may_end = BackgroundWriter(tmp_path, lambda: None), threading.Event()
    writer.submit(lambda: None)
    writer.submit(lambda: may_end.wait(TIMEOUT_S) and None)
    writer.wait(max_pending=1)
    assert not may_end.is_set()
    may_end.set()
    writer.wait()


@pytest.mark.parametrize("call", ["submit", "wait", "raise_pending_error"])
def test_an_error_is_raised_by_the_next_call_and_later_writes_follow_it(tmp_path: Path, call: str) -> None:
    writer, done, may_fail = BackgroundWriter(tmp_path, lambda: None), [], threading.Event()

    def fail() -> None:
        may_fail.wait(TIMEOUT_S)
        raise OSError(5, "Input/output error")

    writer.submit(fail)
    writer.submit(lambda: done.append("later"))
    may_fail.set()
    calls: dict[str, Callable[[], None]] = {
        "submit": lambda: writer.submit(lambda: None),
        "wait": writer.wait,
        "raise_pending_error": writer.raise_pending_error,
    }
    while writer.is_running:
        time.sleep(0.01)
    with pytest.raises(OSError, match="Input/output"):
        calls[call]()
    assert not done
    assert writer.has_failed
    writer.wait()
    assert done == ["later"]


def test_a_full_disk_is_waited_for_and_the_order_is_kept(small_disk: Path) -> None:
    filler, order = fill(small_disk), []

    def free_space() -> None:
        filler.unlink(missing_ok=True)

    def write(name: str) -> Callable[[], None]:
        def write_file() -> None:
            (small_disk / name).write_bytes(bytes(100_000))
            order.append(name)

        return write_file

    writer = BackgroundWriter(small_disk, free_space)
    writer.submit(write("first"))
    writer.submit(write("second"))
    writer.wait()
    assert order == ["first", "second"]
    assert not writer.has_failed


def test_copies_of_the_state_use_the_same_memory_again() -> None:
    networks = build_networks(Line(), Points())
    model = TrainingModel(networks.training, Line(), open_example())
    model.compile(optimizer="adam")
    model.optimizer.build(model.trainable_variables)
    buffers = Buffers()
    first = capture(model, buffers)
    memory = {id(array) for array in first.values()}
    for _ in range(2):
        buffers.release(first.values())
        first = capture(model, buffers)
        assert {id(array) for array in first.values()} == memory


class Logs(Callback):
    """Logs a value at the end of each epoch."""

    def on_epoch_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        run.log("logged", 7.0)


def test_the_metrics_of_an_export_contain_what_callbacks_log(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 2}, callbacks=[Logs()]))
    last = read_history(tmp_path / "run" / "history.csv")[-1]
    for export in ("best", "export"):
        metrics = read_metrics(tmp_path / "run" / export)
        assert metrics["logged"] == last["logged"]
        assert last.keys() <= metrics.keys()


class Fails(Callback):
    """Raises an exception after the weights of the best epoch were captured."""

    def on_epoch_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        raise ValueError("wrong")


@pytest.mark.parametrize("lav_every_n", [0, 1])
def test_a_callback_that_fails_leaves_no_files_of_the_best_epoch(lav_every_n: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"):
        train(small(tmp_path / "run", trainer={"lav_every_n": lav_every_n}, callbacks=[Fails()]))
    assert not [path for path in (tmp_path / "run").iterdir() if "best" in path.name]
