"""Callbacks: what their hooks see, their state, their errors, and those of Keras."""

from __future__ import annotations

import csv
import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from small import Line, Points, Small, small
from stopping import differences

from tfaip_like import ArraySource, Interrupted, Mode, UsageError, keras, load_predictor, train
from tfaip_like._keras_ext.random_states import seed_everything
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import read_history
from tfaip_like._training.checkpointing.checkpoints import Position, list_checkpoints
from tfaip_like._training.resume_verification import verify_resume
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.modeling._network import build_networks, reset_keras
from tfaip_like.settings import EarlyStopping, Resume

STEPS_PER_EPOCH = 12
Metrics = Mapping[str, float]


class Journal(Callback):
    """Keeps the calls of all hooks; raises or is interrupted in one of them."""

    every: str = "5steps"
    fails_in: str = ""
    """Hook and step: `on_step_end 10`."""
    sends: int = 0
    """Signal that is sent there; 0 raises."""

    def on_train_begin(self, run: RunContext) -> None:
        self.calls: list[str] = []
        self._note("on_train_begin", run)

    def on_epoch_begin(self, run: RunContext) -> None:
        self._note("on_epoch_begin", run)

    def on_step_end(self, run: RunContext, metrics: Metrics) -> None:
        self._note("on_step_end", run, f" {sorted(metrics)} {metrics['loss']:.6f}")

    def on_validation_end(self, run: RunContext, metrics: Metrics, summaries: Mapping[str, Any]) -> None:
        self._note("on_validation_end", run, f" {metrics['val_loss']:.6f}")

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        self._note("on_epoch_end", run, f" {metrics['epoch']} {metrics['lr']:g}")
        run.log("calls", len(self.calls))

    def on_train_end(self, run: RunContext) -> None:
        assert run.output_dir is not None
        (run.output_dir / "calls.txt").write_text("\n".join(self.calls))

    def _note(self, hook: str, run: RunContext, values: str = "") -> None:
        assert run.network.weights
        self.calls.append(f"{hook} {run.step} of epoch {run.epoch}{values}")
        if self.fails_in == f"{hook} {run.step}":
            if not self.sends:
                raise ValueError("the service is away")
            os.kill(os.getpid(), self.sends)


def journaling(output_dir: Path, trainer: Mapping[str, Any] | None = None, **parameters: Any) -> Small:
    """Return a training with a journal."""
    settings = {"epochs": 2, "checkpoint_every": "7steps", **(trainer or {})}
    return small(output_dir, trainer=settings, callbacks=[Journal(**parameters)])


def calls(run: Path) -> list[str]:
    """Return the calls of a finished run."""
    return (run / "calls.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run without interruption."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(journaling(run))
    return run


def test_hooks_run_in_the_order_of_the_training(straight: Path) -> None:
    hooks = [" ".join(call.split()[:2]) for call in calls(straight)]
    assert hooks == [
        *("on_train_begin 0", "on_epoch_begin 0", "on_step_end 5", "on_step_end 10"),
        *("on_validation_end 12", "on_epoch_end 12"),
        *("on_epoch_begin 12", "on_step_end 15", "on_step_end 20"),
        *("on_validation_end 24", "on_epoch_end 24"),
    ]
    assert "['error', 'loss', 'square']" in calls(straight)[2]
    assert [row["calls"] for row in read_history(OutputDir(straight).history)] == [6, 11]


@pytest.mark.parametrize("steps_per_execution", [slow(1), 4])
def test_hooks_see_the_same_for_any_number_of_steps_per_execution(
    steps_per_execution: int, straight: Path, tmp_path: Path
) -> None:
    train(journaling(tmp_path / "run", {"steps_per_execution": steps_per_execution}))
    assert calls(tmp_path / "run") == calls(straight)


@pytest.mark.parametrize(
    ("fails_in", "position"),
    [
        slow("on_epoch_begin 12", Position(1, 0)),
        ("on_step_end 15", Position(1, 3)),
        slow("on_validation_end 24", Position(1, 12)),
        ("on_epoch_end 24", Position(1, 12)),
    ],
)
def test_a_hook_that_raises_ends_the_training_after_its_state_is_saved(
    fails_in: str, position: Position, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="the service is away") as caught:
        train(journaling(run, fails_in=fails_in))
    assert f"Raised by the callback Journal in `{fails_in.split()[0]}`." in caught.value.__notes__
    assert list_checkpoints(OutputDir(run).checkpoints)[-1].position == position
    train(journaling(run), Resume())
    changed = differences(straight, run)
    if position == Position(1, 12):  # the evaluation is repeated with the state from before it
        assert changed == []
    assert set(changed) <= {"history"}  # the number of calls: the hook runs again, unless its step is done


@pytest.mark.parametrize("fails_in", ["on_step_end 10", slow("on_validation_end 12"), slow("on_epoch_end 12")])
def test_state_is_restored_exactly_after_a_signal(fails_in: str, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(journaling(run, fails_in=fails_in, sends=int(signal.SIGTERM)))
    train(journaling(run), Resume())
    assert differences(straight, run) == []
    if fails_in == "on_step_end 10":  # the end of an epoch runs as a whole when it is resumed
        assert calls(run) == calls(straight)


@pytest.mark.slow
def test_a_kill_within_a_hook_loses_only_what_follows_the_last_checkpoint(straight: Path, tmp_path: Path) -> None:
    code = (
        "import signal, sys; from pathlib import Path; from test_callbacks import *; "
        "train(journaling(Path(sys.argv[1]), fails_in='on_step_end 20', sends=int(signal.SIGKILL)))"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], cwd=Path(__file__).parent)
    assert killed.returncode == -signal.SIGKILL
    train(journaling(tmp_path / "run"), Resume())
    assert differences(straight, tmp_path / "run") == []
    assert calls(tmp_path / "run") == calls(straight)


class Stopper(Callback):
    """Ends the training after the first epoch."""

    def on_step_end(self, run: RunContext, metrics: Metrics) -> None:
        run.request_stop("enough")

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        run.request_stop("a later reason")


def test_a_callback_ends_the_training_after_the_epoch_with_all_validations(tmp_path: Path) -> None:
    scenario = small(tmp_path / "run", trainer={"val_every_n": 2}, callbacks=[Stopper()])
    result = train(scenario)
    assert result.stopped_early == "enough"
    assert [row["epoch"] for row in result.history] == [1]
    assert "val_loss" in result.history[0]
    assert train(scenario, Resume()).stopped_early == "enough"  # nothing is trained


def test_verify_names_the_callback_that_ends_the_training_too_early() -> None:
    with pytest.raises(
        UsageError, match=r"--verify: a callback ended .* of 2 epochs too early: enough;\nverify without"
    ):
        verify_resume(small(callbacks=[Stopper()]))


class FailsInVerify(Callback):
    """Raises in a temporary run."""

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        if run.is_temporary:
            raise ValueError("no messages here")


def test_an_error_of_a_callback_in_verify_names_no_files_that_are_removed() -> None:
    train(small(callbacks=[FailsInVerify()], trainer={"epochs": 1}))
    with pytest.raises(ValueError, match="no messages here") as caught:
        verify_resume(small(callbacks=[FailsInVerify()]))
    assert caught.value.__notes__ == ["Raised by the callback FailsInVerify in `on_epoch_end`."]


class Reserved(Callback):
    """Logs a name of the trainer."""

    name: str = "lr"

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        run.log(self.name, 1.0)


@pytest.mark.parametrize(
    "name", ["lr", *map(slow, ["loss", "square", "error", "epoch"]), "val_loss", slow("val_count")]
)
def test_a_name_of_the_trainer_cannot_be_logged(name: str) -> None:
    with pytest.raises(UsageError, match=f"log: '{name}'.* (reserved|logged by the trainer); choose another name"):
        train(small(callbacks=[Reserved(name=name)]))


class Falling(Callback):
    """Logs a value that falls with each call of a hook."""

    hook: str = "on_validation_end"
    """The hook."""

    def on_validation_end(self, run: RunContext, metrics: Metrics, summaries: Any) -> None:
        if self.hook == "on_validation_end":
            run.log("falling", -run.step)

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        if self.hook == "on_epoch_end":
            run.log("falling", -run.step)


def test_a_logged_value_selects_the_best_epoch() -> None:
    monitor = EarlyStopping(monitor="falling", mode="max", n_to_go=1)
    result = train(small(callbacks=[Falling()], early_stopping=monitor, trainer={"sanity_check": False}))
    assert (result.best_epoch, result.best_value) == (1, -12.0)
    assert result.stopped_early == "falling did not improve in 1 check (best: epoch 1)"


def test_a_value_that_is_logged_after_the_selection_cannot_be_monitored() -> None:
    monitor = EarlyStopping(monitor="falling", mode="max")
    with pytest.raises(UsageError, match=r"monitor falling: logged in `on_epoch_end`, after the best .*on_step_end"):
        train(small(callbacks=[Falling(hook="on_epoch_end")], early_stopping=monitor, trainer={"sanity_check": False}))


def test_a_value_that_is_never_logged_gives_warnings(caplog: pytest.LogCaptureFixture) -> None:
    monitor = EarlyStopping(monitor="fallling", mode="max")
    train(small(callbacks=[Falling()], early_stopping=monitor, trainer={"epochs": 1, "sanity_check": False}))
    assert "monitor fallling: unknown metric; available: loss" in caplog.text
    assert "no callback has logged it yet" in caplog.text
    assert "no best epoch and no best/: fallling was never logged" in caplog.text


class Arrays(Callback):
    """Keeps an array, which JSON cannot hold, and a private one, which is not saved."""

    def on_train_begin(self, run: RunContext) -> None:
        self._private = np.zeros(3)
        self.sums = np.zeros(3)


def test_state_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match=r"Arrays.state_dict: .*ndarray is not JSON.*begin the name .* underscore"):
        train(small(tmp_path / "run", callbacks=[Arrays()]))


def test_a_hook_with_the_signature_of_keras_is_an_error() -> None:
    class OfKeras(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # type: ignore[override]
            pass

    expected = r"OfKeras.on_epoch_end is called with \(self, run, metrics\); it takes \(self, epoch, logs\)"
    with pytest.raises(CodeError, match=expected):
        train(small(callbacks=[OfKeras()]))


class SetsStopTraining(Callback):
    def on_epoch_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        run.stop_training = True  # type: ignore[attr-defined]


def test_an_attribute_of_keras_cannot_be_set_on_the_run() -> None:
    with pytest.raises(AttributeError, match="stop_training"):
        train(small(callbacks=[SetsStopTraining()]))


def test_parameters_are_frozen_and_other_attributes_are_not() -> None:
    callback = Journal()
    callback.seen = 1  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError, match="every"):
        callback.every = "2steps"  # type: ignore[misc]
    assert callback.state_dict() == {"seen": 1}
    with pytest.raises(UsageError, match=r"Journal.every .*expected epoch, 5epochs"):
        train(small(callbacks=[Journal(every="5 stages")]))


def test_a_training_works_on_a_copy_of_a_callback(tmp_path: Path) -> None:
    callback = Journal()
    train(small(tmp_path / "run", trainer={"epochs": 1}, callbacks=[callback]))
    assert vars(callback) == {"every": "5steps", "fails_in": "", "sends": 0}


class OnDisk(Callback):
    """Notes the checkpoints."""

    def on_train_begin(self, run: RunContext) -> None:
        self.names: list[str] = []

    def on_checkpoint(self, run: RunContext, path: Path) -> None:
        assert (path / "checksums.json").exists()
        self.names.append(path.name)

    def on_train_end(self, run: RunContext) -> None:
        assert self.names == ["epoch_0000_step_00008", "epoch_0001", "epoch_0001_step_00004", "epoch_0002"]
        print("all checkpoints were seen")


def test_complete_checkpoints_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = {"epochs": 2, "checkpoint_every": "8steps", "keep_epochs": [1], "keep_checkpoints": 9}
    train(small(tmp_path / "run", trainer=trainer, callbacks=[OnDisk()]))
    assert "all checkpoints were seen" in capsys.readouterr().out


MESSAGE = """
from tfaip_like.callbacks import Callback

class Message(Callback):
    '''Message at the end of each epoch.'''

    channel: str = "general"
    '''Channel of the message.'''

    def on_epoch_end(self, run, metrics):
        print(f"#{self.channel}: epoch {run.epoch} done")
        if self.channel == "broken":
            raise RuntimeError("no connection")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Provide a folder with a scenario and a callback in another module."""
    (tmp_path / "message.py").write_text(MESSAGE)
    shutil.copy(Path(__file__).with_name("small.py"), tmp_path / "small.py")
    return tmp_path


def test_a_callback_is_chosen_by_flag(package: Path, quick_run: Run) -> None:
    command = ["train-scenario", "small:Small", "--trainer.epochs", "1", "--callbacks", "message:Message"]
    done = quick_run(*command, "--callbacks.0.channel", "training", "--trainer.output_dir", "run", cwd=package)
    assert done.returncode == 0, done.stderr
    assert "#training: epoch 1 done" in done.stdout
    failed = quick_run(*command, "--callbacks.0.channel", "broken", "--trainer.output_dir", "other", cwd=package)
    assert failed.returncode == 1
    first = [line for line in failed.stderr.splitlines() if "message.py" in line or "RuntimeError" in line]
    assert "message.py" in first[0]
    assert "Raised by the callback Message in `on_epoch_end`." in failed.stderr
    assert "Run `resume-training" in failed.stderr
    # The export does not need the package of the callback.
    (package / "message.py").unlink()
    assert "sum" in load_predictor(package / "run" / "best").one({"x": np.zeros(2, "float32")}).outputs


def fit_history(callback: Any) -> list[dict[str, float]]:
    """Train like `deterministic()` with plain Keras; return the values of the epochs."""
    reset_keras("float32")
    seed_everything(7)
    data, model = Points(), Line(dropout=0.0)
    loader = open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(batch_size=8), None, 7)
    validation = data.source(Mode.EVALUATE)
    assert isinstance(validation, ArraySource)
    network = build_networks(model, data).training
    wrapped = keras.Model(network.inputs, network.outputs[0])
    wrapped.compile(keras.optimizers.Adam(0.001), loss=lambda y, p: (y - p) ** 2, jit_compile=False)
    batches = [loader.batch(number) for number in range(2 * STEPS_PER_EPOCH)]
    loader.close()

    def generate() -> Any:
        for batch in batches:
            yield batch.inputs["x"], batch.targets["y"]

    wrapped.fit(
        generate(),
        epochs=2,
        steps_per_epoch=STEPS_PER_EPOCH,
        validation_data=(validation.inputs["x"], validation.targets["y"]),
        validation_batch_size=32,
        verbose=0,
        callbacks=[callback],
    )
    return [{"loss": loss} for loss in wrapped.history.history["loss"]]


class Hooks(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes each call, with the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        assert self.model.optimizer is not None
        self.calls.append(("train begin",))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch begin", epoch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch begin", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch end", batch, pytest.approx(float(logs["loss"]), rel=1e-5)))

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls.append(("test begin",))

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("test batch begin", batch))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("test batch end", batch, pytest.approx(float(logs["loss"]), rel=1e-5)))

    def on_test_end(self, logs: Any = None) -> None:
        self.calls.append(("test end", pytest.approx(float(logs["loss"]), rel=1e-5)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        losses = [pytest.approx(float(logs[name]), rel=1e-5) for name in ("loss", "val_loss") if name in logs]
        self.calls.append(("epoch end", epoch, *losses))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(("train end",))


def deterministic(**trainer: Any) -> Small:
    """Return a training that plain Keras can repeat."""
    settings = {"epochs": 2, "steps_per_execution": 1, **trainer}
    return small(model=Line(dropout=0.0), evaluator=None, trainer=settings)


def test_a_keras_callback_sees_the_calls_and_values_of_fit() -> None:
    ours, theirs = Hooks(), Hooks()
    train(deterministic(), callbacks=[ours])
    fit_history(theirs)
    assert ours.calls == theirs.calls
    assert [call[:2] for call in ours.calls if call[0].startswith("test")][:5] == [
        *(("test begin",), ("test batch begin", 0), ("test batch end", 0)),
        *(("test batch begin", 1), ("test batch end", 1)),
    ]


def test_a_keras_callback_does_not_see_load_and_validate() -> None:
    hooks = Hooks()
    train(deterministic(lav_every_n=1, val_every_n=2), callbacks=[hooks])
    assert [call[0] for call in hooks.calls].count("test begin") == 1


def test_a_keras_callback_sees_the_last_step_of_each_execution() -> None:
    hooks = Hooks()
    train(deterministic(steps_per_execution=5, epochs=1), callbacks=[hooks])
    assert [call[:2] for call in hooks.calls if call[0] == "batch end"] == [
        ("batch end", 4),
        ("batch end", 9),
        ("batch end", 11),
    ]


def test_keras_own_callbacks_work(tmp_path: Path) -> None:
    file, epochs = tmp_path / "log.csv", list[int]()
    callbacks = [
        keras.callbacks.CSVLogger(file),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch)),
    ]
    result = train(small(trainer={"epochs": 2}), callbacks=callbacks)
    with file.open() as table:
        rows = list(csv.DictReader(table))
    assert epochs == [0, 1]
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in result.history]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in result.history]


def test_stop_training_of_a_keras_callback_ends_the_training() -> None:
    class Stops(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    result = train(small(), callbacks=[Stops()])
    assert len(result.history) == 1
    assert result.stopped_early == "a Keras callback set stop_training"


def test_a_resumed_run_says_once_that_keras_callbacks_start_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 1}), callbacks=[Hooks(), Hooks()])
    with caplog.at_level(logging.WARNING):
        train(small(tmp_path / "run", trainer={"epochs": 2}), Resume(), callbacks=[Hooks(), Hooks()])
    assert caplog.text.count("the state of Keras callbacks is not restored") == 1


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: keras.callbacks.ModelCheckpoint("x.keras"), "best/ is the best epoch"),
        (lambda: keras.callbacks.BackupAndRestore("backup"), "resume-training continues"),
        (lambda: keras.callbacks.SwapEMAWeights(), "use Trainer.calc_ema"),
        (lambda: keras.callbacks.ReduceLROnPlateau(), "use Small.learning_rate ReduceOnPlateau"),
        (lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1), "use Small.learning_rate"),
        (lambda: keras.callbacks.EarlyStopping(restore_best_weights=True), "best/ holds the best weights"),
        (lambda: "a text", "neither a Callback of this package nor one of Keras"),
    ],
)
def test_keras_callbacks_that_would_act_behind_the_loop_are_rejected(make: Any, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        train(small(), callbacks=[make()])
