"""Resuming a run: exactly, at any step, and with changed parameters."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import slow
from keras.src.backend.common.dtypes import ALLOWED_DTYPES
from small import Largest, Line, Noise, Points, Small, small
from stopping import (
    ExternalRandomness,
    NumberedPoints,
    RaggedPoints,
    StopAt,
    StopsInValidation,
    copy_as_killed,
    differences,
    read_last_state,
)

from tfaip_like import Interrupted, Mode, Processor, Sample, TrainingError, UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import (
    CHECKSUMS,
    CheckpointData,
    Position,
    list_checkpoints,
    load_latest_valid,
    prune_checkpoints,
    supersede_later_checkpoints,
    write_checkpoint,
)
from tfaip_like._training.checkpointing.state_schema import (
    Batching,
    BestValue,
    EarlyStoppingState,
    ElapsedState,
    SavedState,
    SelectionState,
)
from tfaip_like._training.devices import configure_devices
from tfaip_like._training.loop import TrainingLoop
from tfaip_like._training.resume_verification import verify_resume
from tfaip_like._training.training import run_training
from tfaip_like.data import Source
from tfaip_like.optimizers import Adam, Adamax, Optimizer, ScheduleFreeAdamW
from tfaip_like.schedules import Constant, CosineDecay, ReduceOnPlateau
from tfaip_like.settings import EarlyStopping, Resume


def everything(folder: Path, **changes: Any) -> Small:
    """Return a training with all that has a state."""
    trainer = {"epochs": 3, "checkpoint_every": "5steps", "keep_checkpoints": 100, "calc_ema": 0.9, "jit_compile": None}
    settings: dict[str, Any] = {
        "data": Points(processors=[Noise()]),
        "learning_rate": ReduceOnPlateau(lr=0.01, patience=1, min_delta=10.0, warmup_epochs=0.5),
        "early_stopping": EarlyStopping(n_to_go=50),
        **changes,
    }
    return small(folder, **{**settings, "trainer": {**trainer, **changes.get("trainer", {})}})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run that nothing has interrupted: 3 epochs of 12 steps."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(everything(folder))
    return folder


@pytest.mark.parametrize(
    "position", [Position(0, 5), slow(Position(1, 0)), slow(Position(1, 8)), slow(Position(2, 11))], ids=str
)
def test_a_run_that_was_killed_ends_with_the_same_bits(uninterrupted: Path, tmp_path: Path, position: Position) -> None:
    positions = [checkpoint.position for checkpoint in list_checkpoints(OutputDir(uninterrupted).checkpoints)]
    if position not in positions:  # every fifth step of the run is saved: 5, 10 | 15, 20 | 25, 30, 35
        position = max(known for known in positions if known <= position)
    copy = copy_as_killed(uninterrupted, tmp_path / "copy", position)
    result = train(everything(copy), Resume())
    assert differences(uninterrupted, copy) == []
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert (copy / "export" / "serve" / "saved_model.pb").exists()
    run = json.loads((copy / "run.json").read_text())
    assert run["status"] == "done"
    assert len(run["resumed"]) == 1
    for line in (uninterrupted / "history.csv", copy / "history.csv"):
        assert len(line.read_text().splitlines()) == 4


def test_positions_of_checkpoints_are_where_they_should_be(uninterrupted: Path) -> None:
    positions = [checkpoint.position for checkpoint in list_checkpoints(OutputDir(uninterrupted).checkpoints)]
    steps = [position.epoch * 12 + position.step for position in positions]
    assert steps == [5, 10, 15, 20, 25, 30, 35, 36]


def scenario_that_stops(folder: Path, tmp_path: Path, processes: int) -> Small:
    stop = StopAt(index=30, times=1, marker=tmp_path / "marks" / "met")
    return everything(
        folder,
        data=NumberedPoints(processors=[Noise(), stop]),
        train={"num_processes": processes},
        trainer={"checkpoint_every": "epoch", "steps_per_execution": 2, "jit_compile": False},
    )


def test_a_signal_saves_the_state_at_the_next_step_and_nothing_is_lost(tmp_path: Path) -> None:
    reference, run = tmp_path / "reference", tmp_path / "run"
    train(scenario_that_stops(reference, tmp_path, 0))
    (tmp_path / "marks").mkdir()
    with pytest.raises(Interrupted) as raised:
        train(scenario_that_stops(run, tmp_path, 0))
    assert raised.value.exit_code == 143
    position = list_checkpoints(OutputDir(run).checkpoints)[-1].position
    assert position.step > 0
    assert raised.value.__notes__ == [f"Run `resume-training {run}` to continue after {position}."]
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    train(scenario_that_stops(run, tmp_path, 0), Resume())
    assert differences(reference, run) == []


@pytest.mark.slow
def test_a_signal_during_the_sanity_check_of_a_resumed_run_changes_no_state(
    uninterrupted: Path, tmp_path: Path
) -> None:
    copy = copy_as_killed(uninterrupted, tmp_path / "copy", Position(0, 5))
    phases: list[str] = []

    def stop_in_first_validation(phase: str) -> None:
        if phase == "validation" and "validation" not in phases:
            os.kill(os.getpid(), signal.SIGTERM)
        phases.append(phase)

    scenario = everything(copy, trainer={"sanity_check": True})
    with pytest.raises(Interrupted):
        run_training(scenario, configure_devices(scenario.device), Resume(), phase_hook=stop_in_first_validation)
    assert "step" not in phases
    train(everything(copy), Resume())
    assert differences(uninterrupted, copy) == []


class StoppedWhilePrepared(Small):
    """Gets a signal before its first step."""

    def adapt(self, train: Source | None, folder: Path) -> StoppedWhilePrepared:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().adapt(train, folder)


def test_a_signal_during_adapt_reports_no_saved_state(tmp_path: Path) -> None:
    trainer = dataclasses.replace(Small().trainer, output_dir=tmp_path / "run")
    with pytest.raises(Interrupted) as raised:
        train(StoppedWhilePrepared(trainer=trainer))
    assert raised.value.exit_code == 143
    note = f"Run `resume-training {tmp_path / 'run'}` to start from the beginning; no step was trained."
    assert raised.value.__notes__ == [note]


@pytest.mark.parametrize("validates", [True, slow(False)], ids=["validation", "no validation"])
def test_a_signal_during_the_last_step_of_an_epoch_repeats_no_step(
    validates: bool, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_execution = TrainingLoop._after_execution

    def stopped(self: TrainingLoop, results: Any, is_last: bool) -> None:
        if self.state.global_step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        after_execution(self, results, is_last)

    trainer = {"val_every_n": int(validates)}
    monkeypatch.setattr(TrainingLoop, "_after_execution", stopped)
    with pytest.raises(Interrupted):
        train(everything(tmp_path / "run", trainer=trainer))
    monkeypatch.undo()
    position = list_checkpoints(OutputDir(tmp_path / "run").checkpoints)[-1].position
    assert position == (Position(0, 12) if validates else Position(1, 0))
    train(everything(tmp_path / "run", trainer=trainer), Resume())
    if not validates:
        train(everything(tmp_path / "straight", trainer=trainer))
        uninterrupted = tmp_path / "straight"
    assert differences(uninterrupted, tmp_path / "run") == []


class Counting(Processor):
    """Notes each training sample that it gets."""

    file: Path = Path("met")
    """A line for each."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        with self.file.open("a") as file:
            file.write(f"{sample.meta['number']}\n")
        return sample


def test_a_resumed_run_reads_no_sample_that_it_has_trained_on(tmp_path: Path) -> None:
    """Resuming takes the same time late in an epoch as early."""

    def scenario(folder: Path) -> Small:
        data = NumberedPoints(processors=[Counting(file=tmp_path / folder.name)])
        trainer = {"epochs": 1, "checkpoint_every": "10steps", "jit_compile": False}
        return everything(folder, data=data, trainer=trainer)

    run, copy = tmp_path / "folders" / "run", tmp_path / "folders" / "copy"
    train(scenario(run))
    copy_as_killed(run, copy, Position(0, 10))
    train(scenario(copy), Resume())
    met = {name: set((tmp_path / name).read_text().split()) for name in ("run", "copy")}
    assert len(met["run"]) == 12 * 8
    # Names and shapes are learnt from the first sample and the first batch.
    assert len(met["copy"]) <= 1 + 8 + 2 * 8
    assert differences(run, copy) == []


@pytest.mark.slow
def test_a_long_run_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    rows = train(small(tmp_path / "run", trainer={"epochs": 50, "calc_ema": 0.9, "lav_every_n": 10})).history
    # What C frees it keeps for the next export, up to some 25 MB; a copy of anything in each epoch would be more.
    assert rows[-1]["memory_mb"] - rows[1]["memory_mb"] < 40


@pytest.mark.slow
def test_a_signal_during_validation_repeats_no_step(tmp_path: Path) -> None:
    def scenario(folder: Path, times: int) -> Small:
        judge = StopsInValidation(marker=tmp_path / f"{folder.name}.marks", times=times)
        trainer = {"checkpoint_every": "epoch", "jit_compile": False, "sanity_check": False}
        return everything(folder, evaluator=judge, trainer=trainer)

    train(scenario(tmp_path / "reference", 99))
    with pytest.raises(Interrupted):
        train(scenario(tmp_path / "run", 1))
    assert list_checkpoints(OutputDir(tmp_path / "run").checkpoints)[-1].position == Position(1, 12)
    train(scenario(tmp_path / "run", 99), Resume())
    assert differences(tmp_path / "reference", tmp_path / "run") == []


def test_a_signal_before_the_first_step_reports_that_nothing_was_trained(tmp_path: Path) -> None:
    judge = StopsInValidation(marker=tmp_path / "marks", times=0)  # in the sanity check
    with pytest.raises(Interrupted) as raised:
        train(everything(tmp_path / "run", evaluator=judge, trainer={"jit_compile": False, "sanity_check": True}))
    note = f"Run `resume-training {tmp_path / 'run'}` to start from the beginning; no step was trained."
    assert raised.value.__notes__[-1] == note


def test_a_run_without_a_checkpoint_starts_from_scratch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    result = train(small(tmp_path / "run", trainer={"epochs": 1}), Resume())
    assert "no checkpoint found" in caplog.text
    assert len(result.history) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, slow(0.9)])
def test_averages_that_come_or_go_leave_the_optimizer_its_state(
    rate: float, uninterrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    if rate:
        train(everything(run, trainer={"epochs": 2, "calc_ema": 0.0}))
    else:
        copy_as_killed(uninterrupted, run, Position(2, 0))
    weights = [name for name in read_last_state(run).arrays if name.endswith(("hidden/kernel", "hidden_kernel"))]
    assert len(weights) == 1  # averages are stored in addition
    train(everything(run, trainer={"calc_ema": rate}), Resume())
    assert "no checkpoint found" not in caplog.text


@pytest.mark.slow
def test_another_precision_leaves_the_optimizer_its_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epochs, precision in enumerate(("float32", "mixed_float16", "float32"), start=1):
        scenario = small(tmp_path / "run", trainer={"epochs": epochs, "precision": precision})
        train(scenario, Resume() if epochs > 1 else None)
    assert "no checkpoint found" not in caplog.text
    arrays = read_last_state(tmp_path / "run").arrays
    (iterations,) = [value for name, value in arrays.items() if name.endswith("iteration")]
    assert iterations > 2 * 12  # less what overflowed


def test_a_rejected_resume_does_not_change_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small(run, trainer={"epochs": 2, "keep_every_n": 1}))
    params, known = (run / "trainer_params.json").read_text(), sorted((run / "checkpoints").iterdir())
    with pytest.raises(UsageError, match="Trainer.epochs 1: the run has already completed 2 epochs"):
        train(small(run, trainer={"epochs": 1}), Resume())
    with pytest.raises(UsageError, match="checkpoint mismatch"):
        train(small(run, model=Wide()), Resume(epoch=1))
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert (run / "trainer_params.json").read_text() == params
    assert sorted((run / "checkpoints").iterdir()) == known


def test_a_finished_run_without_checkpoints_does_not_start_from_scratch(uninterrupted: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match="checkpoints: no checkpoint left to resume from"):
        train(everything(run), Resume())


@pytest.mark.slow
def test_a_run_that_was_stopped_without_saving_before_its_first_checkpoint_begins_again(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "stopped", "checkpoint": None}))
    train(everything(run), Resume())
    assert differences(uninterrupted, run) == []


# Damage.


BEFORE_THE_FIRST = BestValue(None, None, None)
AT_THE_START = ElapsedState(0.0, 0, None)
EMPTY_STATE = SavedState(
    batching=Batching(steps_per_epoch=1, batch_size=1, accumulate=1, stacked=False, backend="tensorflow"),
    stream=None,
    steps_per_execution=1,
    pads_lengths=False,
    schedule_begin=0.0,
    schedule_offset=0,
    seconds=0.0,
    waited=0.0,
    evaluated_step=0,
    evaluated_seconds=0.0,
    metrics=None,
    history=[],
    selection=SelectionState(
        monitor="val_loss",
        mode="min",
        best=BEFORE_THE_FIRST,
        early_stopping=EarlyStoppingState(
            best=BEFORE_THE_FIRST,
            last_improvement=BEFORE_THE_FIRST,
            failed_tests=0,
            improved=None,
            updated_at=AT_THE_START,
            waiting_since=AT_THE_START,
        ),
        stop_reason=None,
        stop_settings={},
        plateau=None,
        best_checkpoints={},
    ),
    callbacks=[],
    logged={},
)


def content(value: float) -> CheckpointData:
    return CheckpointData({"network:w": np.full(7, value)}, EMPTY_STATE, {"class": "x:Y"})


FILES = ("variables.npz", "state.json", "params.json", CHECKSUMS)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["truncate", "flip", "flip the end", "delete", "empty"])
def test_a_damaged_checkpoint_is_recognised_and_the_one_before_is_used(
    tmp_path: Path, file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, Position(epoch, 0), content(epoch))
    path = tmp_path / "epoch_0002" / file
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    else:
        place = -1 if how == "flip the end" else len(data) // 2
        data[place] ^= 4
        cut = {"truncate": data[: len(data) // 2], "empty": b""}
        path.write_bytes(cut.get(how, data))
    found = load_latest_valid(tmp_path)
    assert found is not None
    assert found[0].path.name == "epoch_0001"
    assert found[1].arrays["network:w"][0] == 1
    assert "epoch_0002" in caplog.text
    assert "falling back to the previous checkpoint" in caplog.text


def test_all_checkpoints_damaged_is_a_clear_error(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, Position(epoch, 0), content(epoch))
        (tmp_path / f"epoch_000{epoch}" / "state.json").write_text("{")
    with pytest.raises(UsageError, match=r"all checkpoints are corrupt \(epoch_0001, epoch_0002\)"):
        load_latest_valid(tmp_path)


def test_damaged_checkpoints_do_not_take_the_place_of_good_ones(two_epochs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_epochs, run)
    (run / "checkpoints" / "epoch_0002" / "variables.npz").write_bytes(b"")
    trainer = {"epochs": 2, "keep_checkpoints": 1, "keep_every_n": 0, "checkpoint_every": "5steps"}
    train(small(run, learning_rate=CosineDecay(lr=0.01), trainer=trainer), Resume())
    assert (run / "checkpoints" / "superseded" / "epoch_0002").is_dir()
    assert [c.path.name for c in list_checkpoints(OutputDir(run).checkpoints)] == ["epoch_0002"]
    assert differences(two_epochs, run) == []


def test_incomplete_checkpoints_are_ignored(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Position(1, 0), content(1))
    shutil.copytree(tmp_path / "epoch_0001", tmp_path / ".epoch_0002.new-abc")
    found = load_latest_valid(tmp_path)
    assert found is not None
    assert found[0].path.name == "epoch_0001"
    assert not (tmp_path / ".epoch_0002.new-abc").exists()


def test_the_latest_checkpoints_and_selected_epochs_are_kept(tmp_path: Path) -> None:
    for position in (Position(1, 0), Position(1, 50), Position(2, 0), Position(3, 0), Position(3, 50)):
        write_checkpoint(tmp_path, position, content(0))
        prune_checkpoints(tmp_path, 2, {Position(1, 0)})
    assert [c.path.name for c in list_checkpoints(tmp_path)] == ["epoch_0001", "epoch_0003", "epoch_0003_step_00050"]
    assert supersede_later_checkpoints(tmp_path, Position(1, 0)) == (tmp_path / "superseded", 2)
    assert [c.path.name for c in list_checkpoints(tmp_path)] == ["epoch_0001"]
    assert (tmp_path / "superseded" / "epoch_0003").is_dir()


# Other parameters.


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a finished run of 2 epochs of 12 steps, each kept."""
    folder = tmp_path_factory.mktemp("two") / "run"
    train(small(folder, learning_rate=CosineDecay(lr=0.01), trainer={"epochs": 2, "keep_every_n": 1}))
    return folder


def resume_run(two_epochs: Path, tmp_path: Path, resume: Resume | None = None, **changes: Any) -> tuple[Any, Path]:
    run = tmp_path / "run"
    shutil.copytree(two_epochs, run)
    trainer = {"epochs": 3, "keep_every_n": 1, **changes.pop("trainer", {})}
    scenario = small(run, **{"learning_rate": CosineDecay(lr=0.01), **changes}, trainer=trainer)
    return train(scenario, resume or Resume()), run


def test_more_epochs_are_trained_and_the_schedule_spans_them(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, _ = resume_run(two_epochs, tmp_path)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert "changed --trainer.epochs: 2 -> 3" in caplog.text
    expected = float(keras.optimizers.schedules.CosineDecay(0.01, 36)(35))
    assert result.history[-1]["lr"] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_another_optimizer_begins_with_a_fresh_state(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, run = resume_run(two_epochs, tmp_path, optimizer=Adamax())
    assert "changed --optimizer: Adam -> Adamax" in caplog.text
    assert "optimizer state not restored: optimizer or trainable weights changed" in caplog.text
    assert any("adamax" in name for name in read_last_state(run).arrays)
    (iterations,) = [value for name, value in read_last_state(run).arrays.items() if name.endswith("iteration")]
    assert iterations == 12  # or the correction of its moments would be that of an old one
    expected = float(keras.optimizers.schedules.CosineDecay(0.01, 36)(35))
    assert result.history[-1]["lr"] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [Adam(), slow(ScheduleFreeAdamW())], ids=lambda optimizer: type(optimizer).__name__
)
def test_an_optimizer_that_starts_from_scratch_keeps_what_is_learnt(optimizer: Optimizer, tmp_path: Path) -> None:
    same: dict[str, Any] = {"optimizer": optimizer, "learning_rate": Constant(lr=0.02), "model": Line(dropout=0.0)}
    first = train(small(tmp_path / "run", **same, trainer={"epochs": 20}))
    settings = Resume(optimizer="fresh")
    after = train(small(tmp_path / "run", **same, trainer={"epochs": 22}), settings)
    assert after.history[-1]["val_loss"] < 2 * first.history[-1]["val_loss"] + 0.01


def test_another_batch_size_resumes_at_the_same_epoch(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, run = resume_run(two_epochs, tmp_path, train={"batch_size": 16})
    assert "changed --train.batch_size: 8 -> 16" in caplog.text
    arrays = read_last_state(run).arrays
    (iterations,) = [value for name, value in arrays.items() if name.endswith("iteration")]
    assert iterations == 2 * 12 + 6  # its own steps, large and small
    expected = float(keras.optimizers.schedules.CosineDecay(0.01, 18)(17))  # in steps of the new size
    assert result.history[-1]["lr"] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.slow
def test_a_lowered_rate_stays_lowered_until_it_is_reset(tmp_path: Path) -> None:
    def train_losses(folder: str, epochs: int, resume: Resume | None = None, **changes: Any) -> list[float]:
        rate = ReduceOnPlateau(lr=0.01, patience=1, min_delta=10.0, factor=0.5)
        scenario = small(tmp_path / folder, learning_rate=rate, trainer={"epochs": epochs}, **changes)
        return [row["lr"] for row in train(scenario, resume).history]

    uninterrupted = train_losses("straight", 5)
    assert uninterrupted == pytest.approx([0.01, 0.01, 0.005, 0.0025, 0.00125])
    train_losses("run", 4)
    for name in ("more", "other", "fresh"):
        shutil.copytree(tmp_path / "run", tmp_path / name)
    assert train_losses("more", 5, Resume()) == uninterrupted
    assert train_losses("other", 5, Resume(), optimizer=Adamax()) == uninterrupted
    assert train_losses("fresh", 5, Resume(learning_rate="fresh"))[-1] == pytest.approx(0.01)


class Wide(Line):
    """Another hidden layer."""

    def build(self, inputs: Any) -> Any:
        return {"sum": keras.layers.Dense(1, name="add")(keras.layers.Dense(9, name="hidden")(inputs["x"]))[:, 0]}


@pytest.mark.slow
def test_layers_without_weights_may_come_and_go(two_epochs: Path, tmp_path: Path) -> None:
    result, run = resume_run(two_epochs, tmp_path, model=Line(dropout=0.0))
    assert len(result.history) == 3
    assert not any("seed_generator" in name for name in read_last_state(run).arrays if name.startswith("network:"))
    again = train(small(run, learning_rate=CosineDecay(lr=0.01), trainer={"epochs": 4}), Resume())
    assert len(again.history) == 4


def test_values_of_training_are_not_compared_with_those_of_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    first = train(small(run, trainer={"epochs": 2, "val_every_n": 0}))
    assert first.best_epoch == 2
    result = train(small(run, trainer={"epochs": 3}, data=Points(samples=101)), Resume())
    assert "monitor changed to val_loss; the best epoch is reset" in caplog.text
    assert (result.best_epoch, result.best_value) == (3, result.history[-1]["val_loss"])


def test_another_network_is_an_error_that_names_the_weight(two_epochs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"checkpoint mismatch: hidden/kernel has shape \(2, 8\) in the checkpoint"):
        resume_run(two_epochs, tmp_path, model=Wide())


def test_a_run_that_cannot_resume_keeps_its_parameters(two_epochs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint mismatch"):
        resume_run(two_epochs, tmp_path, model=Wide(), trainer={"epochs": 5})
    kept = [(run / "trainer_params.json").read_bytes() for run in (two_epochs, tmp_path / "run")]
    assert kept[0] == kept[1]


def test_resuming_from_a_chosen_epoch_sets_the_later_ones_aside(two_epochs: Path, tmp_path: Path) -> None:
    result, run = resume_run(two_epochs, tmp_path, Resume(epoch=1), trainer={"epochs": 2})
    assert (run / "checkpoints" / "superseded" / "epoch_0002").is_dir()
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert differences(two_epochs, run) == []


def test_resuming_from_an_epoch_without_a_checkpoint_is_rejected(two_epochs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Resume.epoch 7: no checkpoint .* \(available: 1, 2\)"):
        resume_run(two_epochs, tmp_path, Resume(epoch=7))


def test_parts_of_the_state_can_start_from_scratch(two_epochs: Path, tmp_path: Path) -> None:
    settings = Resume(optimizer="fresh", learning_rate="fresh", early_stopping="fresh")
    result, run = resume_run(two_epochs, tmp_path, settings, trainer={"epochs": 4})
    assert result.best_epoch in (3, 4)
    arrays = read_last_state(run).arrays
    (iterations,) = [value for name, value in arrays.items() if name.endswith("iteration")]
    assert iterations == 24  # its own
    expected = float(keras.optimizers.schedules.CosineDecay(0.01, 24)(11))
    assert result.history[2]["lr"] == pytest.approx(expected, rel=1e-4)


def test_resuming_a_finished_run_trains_nothing(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, run = resume_run(two_epochs, tmp_path, trainer={"epochs": 2})
    assert "training already finished (2 epochs)" in caplog.text
    assert len(result.history) == 2
    assert differences(two_epochs, run) == []


def test_fewer_epochs_than_are_done_is_an_error(two_epochs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Trainer.epochs 1: the run has already completed 2 epochs"):
        resume_run(two_epochs, tmp_path, trainer={"epochs": 1})


def test_changes_without_effect_on_resume_give_a_warning(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = small(two_epochs, trainer={"epochs": 2})
    warm = dataclasses.replace(scenario.warmstart, model=two_epochs)
    with caplog.at_level(logging.WARNING):
        resume_run(two_epochs, tmp_path, warmstart=warm, trainer={"epochs": 2})
    assert "has no effect: the weights come from the checkpoint" in caplog.text


@pytest.mark.slow
def test_a_better_model_of_an_abandoned_epoch_is_not_the_best_of_the_run(
    two_epochs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Resuming from epoch 1 with steps that spoil everything: epoch 1 is the best of what the run consists of."""
    best = json.loads((two_epochs / "best" / "metrics.json").read_text())
    first, second = read_last_state(two_epochs).state.history
    assert best["epoch"] == 2
    result, run = resume_run(two_epochs, tmp_path, Resume(epoch=1), learning_rate=CosineDecay(lr=3.0))
    assert (result.best_epoch, result.best_value) == (1, first["val_loss"])
    assert json.loads((run / "best" / "metrics.json").read_text())["val_loss"] == first["val_loss"]
    aside = run / "checkpoints" / "superseded" / "best"
    assert json.loads((aside / "metrics.json").read_text())["val_loss"] == second["val_loss"]
    # And again, with nothing left that has the weights of epoch 1.
    for lost in (run / "checkpoints" / "epoch_0001", run / "best"):
        shutil.rmtree(lost)
    trainer = {"epochs": 4, "keep_every_n": 1}
    again = train(small(run, learning_rate=CosineDecay(lr=3.0), trainer=trainer), Resume(epoch=2))
    assert "cannot restore best/: no checkpoint of the best epoch (1)" in caplog.text
    assert again.best_epoch in (3, 4)
    assert json.loads((run / "best" / "metrics.json").read_text())["epoch"] == again.best_epoch


def test_a_deleted_best_model_comes_back_from_its_checkpoint(two_epochs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(two_epochs, tmp_path / "run"))
    shutil.rmtree(run / "best")
    train(small(run, learning_rate=CosineDecay(lr=0.01), trainer={"epochs": 2, "keep_every_n": 1}), Resume())
    weights = [np.load(folder / "best" / "weights.npz") for folder in (two_epochs, run)]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0].files)
    assert differences(two_epochs, run) == []


# Values of every kind.


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "float16", "bool", "uint64"])
def test_a_checkpoint_holds_every_dtype(tmp_path: Path, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(getattr(ml_dtypes, dtype, dtype))
    arrays = {"network:w": array, "network:scalar": array[0, 1].reshape(())}
    write_checkpoint(tmp_path, Position(1, 0), CheckpointData(arrays, EMPTY_STATE, {}))
    (found,) = list_checkpoints(tmp_path)
    read = found.read().arrays
    assert list(read) == list(arrays)
    for name in arrays:
        assert read[name].dtype == arrays[name].dtype
        assert read[name].shape == arrays[name].shape
        assert read[name].tobytes() == arrays[name].tobytes()


def ones(shape: Any, dtype: str) -> Any:
    # Keras' own casts integers, which TensorFlow cannot do for float8.
    return keras.ops.cast(keras.ops.ones(shape, "float32"), dtype)


class EveryKind(keras.layers.Layer):
    """A layer with a variable of each dtype that Keras has; inference changes some of them."""

    def build(self, shape: Any) -> None:
        self.kinds = [
            self.add_weight(shape=(2,), initializer=ones, dtype=dtype, trainable=False, name=dtype)
            for dtype in ALLOWED_DTYPES
            if dtype != "string"
        ]
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="count")
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        self.count.assign(self.count + 1)
        noise = keras.random.normal(keras.ops.shape(x), dtype=x.dtype)
        return x + noise / 10 + keras.random.normal((), dtype=x.dtype, seed=self.seeds) / 10

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class WithEveryKind(Line):
    """Has them all."""

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(8, activation="relu", dtype="bfloat16")(inputs["x"])
        hidden = EveryKind(name="kinds")(keras.ops.cast(hidden, "float32"))
        return {"sum": keras.layers.Dense(1, name="add")(hidden)[:, 0]}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", slow("mixed_bfloat16"), slow("mixed_float16")])
def test_variables_of_every_dtype_and_unseeded_random_numbers_of_inference_are_resumed(
    tmp_path: Path, precision: str
) -> None:
    def scenario(folder: Path) -> Small:
        trainer = {"jit_compile": False, "precision": precision, "sanity_check": True, "checkpoint_every": "epoch"}
        return everything(folder, model=WithEveryKind(), trainer=trainer)

    run, copy = tmp_path / "folders" / "run", tmp_path / "folders" / "copy"
    train(scenario(run))
    copy_as_killed(run, copy, Position(1, 0))
    shutil.rmtree(copy / "best")
    train(scenario(copy), Resume())
    assert differences(run, copy) == []
    counts = [value for name, value in read_last_state(run).arrays.items() if name.endswith("kinds/count")]
    assert counts == [3 * 12]  # the steps of three epochs, and nothing of their validations


def test_a_value_that_the_checkpoint_lacks_is_named(two_epochs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(two_epochs, tmp_path / "run"))
    for checkpoint in list_checkpoints(OutputDir(run).checkpoints):
        content = checkpoint.read()
        arrays = {name: array for name, array in content.arrays.items() if "rate_factor" not in name}
        write_checkpoint(run / "checkpoints", checkpoint.position, dataclasses.replace(content, arrays=arrays))
    train(small(run, learning_rate=CosineDecay(lr=0.01), trainer={"epochs": 2, "keep_every_n": 1}), Resume())
    with pytest.raises(UsageError, match=r"epoch_0001: cannot resume; missing variables: .*past_average"):
        remove_averages(tmp_path)


def remove_averages(tmp_path: Path) -> None:
    """Resume a run from a checkpoint without the averages that its parameters ask for."""
    run = tmp_path / "averaging"
    scenario = small(run, trainer={"epochs": 1, "calc_ema": 0.9})
    train(scenario)
    (checkpoint,) = list_checkpoints(OutputDir(run).checkpoints)
    content = checkpoint.read()
    arrays = {name: array for name, array in content.arrays.items() if not name.endswith("_past_average")}
    write_checkpoint(run / "checkpoints", checkpoint.position, dataclasses.replace(content, arrays=arrays))
    train(scenario, Resume())


# Exceptions.


class Fails(Largest):
    """An evaluator with a mistake, which somebody corrects later."""

    mistake: Path = Path("mistake")
    """Raises while this file is there."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        if self.mistake.exists():
            raise ZeroDivisionError("a mistake")
        return super().evaluate(samples)


def with_mistake(folder: Path, mistake: Path, **trainer: Any) -> Small:
    trainer = {"checkpoint_every": "epoch", "jit_compile": False, **trainer}
    return everything(folder, evaluator=Fails(mistake=mistake), trainer=trainer)


def test_a_mistake_in_an_evaluator_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "mistake").touch()
    with pytest.raises(ZeroDivisionError) as raised:
        train(with_mistake(tmp_path / "run", tmp_path / "mistake", sanity_check=True))
    assert "--trainer.sanity_check false skips it" in raised.value.__notes__[0]
    assert not list((tmp_path / "run" / "checkpoints").glob("epoch_*"))
    assert not list((tmp_path / "run").glob(".best.*"))


def test_an_exception_after_the_steps_of_an_epoch_does_not_lose_the_epoch(tmp_path: Path) -> None:
    mistake = tmp_path / "mistake"
    train(with_mistake(tmp_path / "reference", mistake))
    mistake.touch()
    with pytest.raises(ZeroDivisionError) as raised:
        train(with_mistake(tmp_path / "run", mistake))
    assert list_checkpoints(OutputDir(tmp_path / "run").checkpoints)[-1].position == Position(0, 12)
    assert (
        raised.value.__notes__[0] == f"Run `resume-training {tmp_path / 'run'}` to continue after step 12 of epoch 1."
    )
    mistake.unlink()
    train(with_mistake(tmp_path / "run", mistake), Resume())
    assert differences(tmp_path / "reference", tmp_path / "run") == []


class Broken(Processor):
    """Fails at a sample while a file is there."""

    mistake: Path = Path("mistake")
    """Raises while this file is there."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.meta.get("number") == 30 and self.mistake.exists():
            raise OSError("the disk was pulled out")
        return sample


@pytest.mark.parametrize("data", [slow("arrays"), slow("ragged"), slow("processes")])
def test_an_exception_of_the_pipeline_leaves_the_state_of_the_last_step(tmp_path: Path, data: str) -> None:
    def scenario(folder: Path, mistake: str) -> Small:
        processors = [Broken(mistake=tmp_path / mistake)]
        kind = RaggedPoints(processors=processors) if data == "ragged" else NumberedPoints(processors=processors)
        return everything(
            folder,
            data=kind,
            model=OfAnyLength() if data == "ragged" else Line(),
            train={"num_processes": int(data == "processes"), "batch_size": 4},
            trainer={"checkpoint_every": "epoch", "jit_compile": False, "steps_per_execution": 2, "epochs": 2},
            evaluator=None,
        )

    train(scenario(tmp_path / "reference", "none"))
    (tmp_path / "mistake").touch()
    with pytest.raises(OSError, match="the disk was pulled out"):
        train(scenario(tmp_path / "run", "mistake"))
    position = list_checkpoints(OutputDir(tmp_path / "run").checkpoints)[-1].position
    assert position.epoch == 0
    assert position.step > 0
    (tmp_path / "mistake").unlink()
    train(scenario(tmp_path / "run", "mistake"), Resume())
    assert differences(tmp_path / "reference", tmp_path / "run") == []


class OfAnyLength(Line):
    """Takes sequences of any length."""

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(8)(keras.ops.expand_dims(inputs["x"], -1))
        hidden = keras.layers.Dropout(0.2)(keras.ops.mean(hidden, axis=1))
        return {"sum": keras.layers.Dense(1)(hidden)[:, 0]}


# What a user can ask for.


INTERRUPTIONS = (
    "killed",
    "signal after a step",
    "signal while waiting for data",
    "signal during validation",
    "exception during validation",
)


@pytest.mark.slow
def test_verify_finds_the_same_bits_after_an_interruption() -> None:
    scenario = small(data=Points(processors=[Noise()]), trainer={"calc_ema": 0.9})
    found = verify_resume(scenario).splitlines()
    assert found[:5] == [f"{name}: bitwise identical" for name in INTERRUPTIONS]
    assert found[5].startswith("compared ")


@pytest.mark.slow
def test_verify_reports_missing_requirements() -> None:
    with pytest.raises(UsageError, match=r"--verify: an epoch must have more than \d+ steps"):
        verify_resume(small(trainer={"samples_per_epoch": 8}))


@pytest.mark.slow
def test_verify_detects_nondeterministic_values() -> None:
    with pytest.raises(TrainingError, match="--verify: resuming is NOT bitwise reproducible") as raised:
        verify_resume(small(data=Points(processors=[ExternalRandomness()])))
    assert re.search(r"killed: \d+ values differ \(.*hidden/kernel", str(raised.value))
