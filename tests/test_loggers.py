"""Loggers: what they are given, in their thread, after a resume, and that they never stop or change a training."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from journal import FAILURE, Journal
from small import Largest, Small, small
from stopping import StopsInValidation, differences

from tfaip_like import Interrupted, Sample, TrainingError, UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import read_history
from tfaip_like._training.loggers import logger_calls, training_loggers
from tfaip_like._training.loggers.logged_runs import LoggedRuns
from tfaip_like._training.loggers.logged_values import LoggedEpoch, collect_hyperparameters
from tfaip_like._training.loggers.logger_thread import LoggerThread
from tfaip_like._utils.errors import pluralize
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.loggers import LoggedRun, Logger, TensorBoard
from tfaip_like.optimizers import SGD, Adam, AdamW
from tfaip_like.schedules import Constant
from tfaip_like.settings import Resume
from tfaip_like.summaries import Image, Summary, Text

STEPS_PER_EPOCH = 12


class Shown(Largest):
    """A number, a picture and a text."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        return {**super().evaluate(samples), "ramp": Image(np.eye(3)), "note": Text("all is well")}


class Counting(Callback):
    """Logs a further value."""

    def on_epoch_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        run.log("twice", 2 * run.epoch)


def calls(file: Path, kind: str) -> list[dict[str, Any]]:
    """Return the calls of a method."""
    return [line for line in Journal.lines(file) if line["call"] == kind]


def steps(file: Path) -> list[int]:
    return [line["step"] for line in calls(file, "log_metrics")]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the folder of a run that is finished, with its journal."""
    folder = tmp_path_factory.mktemp("logged")
    scenario = small(
        folder / "run", evaluator=Shown(), callbacks=[Counting()], loggers=[Journal(file=folder / "in_scenario")]
    )
    train(scenario, loggers=[Journal(file=folder / "in_python")])
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run without loggers."""
    run = tmp_path_factory.mktemp("plain") / "run"
    train(small(run))
    return run


# What they are given.


def test_a_logger_gets_the_values_of_the_history_with_step_and_epoch(logged: Path) -> None:
    file = logged / "in_scenario"
    rows = read_history(OutputDir(logged / "run").history)
    got = calls(file, "log_metrics")
    assert [{**line["metrics"], "step": line["step"]} for line in got] == [dict(row) for row in rows]
    assert [(line["step"], line["epoch"]) for line in got] == [(12, 1), (24, 2), (36, 3)]
    assert [line["metrics"]["twice"] for line in got] == [2, 4, 6]  # of the callback


def test_a_logger_gets_parameters_summaries_best_values_and_the_export(logged: Path) -> None:
    file = logged / "in_scenario"
    (start,), (parameters,) = calls(file, "start"), calls(file, "log_params")
    assert (start["name"], start["resumed"], start["parent"]) == ("run", False, None)
    assert parameters["params"]["optimizer"] == "Adam"
    assert parameters["params"]["model.dropout"] == 0.1
    assert not [name for name in parameters["params"] if name.startswith(("loggers", "trainer.output_dir"))]
    shown = calls(file, "log_summary")
    assert [(line["epoch"], line["name"], line["kind"]) for line in shown[:2]] == [
        (1, "val_ramp", "Image"),
        (1, "val_note", "Text"),
    ]
    assert {name: line["epoch"] for line in calls(file, "log_best") for name in line["metrics"]} == {
        "loss": 3,
        "val_loss": 3,
    }
    (artifact,) = calls(file, "log_artifact")
    assert artifact["name"] == "best"
    assert "model.keras" in artifact["files"]


def test_all_calls_are_in_order_in_one_thread_and_the_end_is_last(logged: Path) -> None:
    lines = Journal.lines(logged / "in_scenario")
    kinds = [line["call"] for line in lines]
    assert kinds[:3] == ["start", "log_params", "log_metrics"]
    assert kinds[-2:] == ["log_artifact", "finish"]
    assert lines[-1]["status"] == "done"
    assert lines[-1]["thread"] == "logger Journal"


def test_loggers_in_python_and_in_the_scenario_get_the_same(logged: Path) -> None:
    one, other = ([*map(str, calls(logged / name, "log_metrics"))] for name in ("in_scenario", "in_python"))
    assert one
    assert len(one) == len(other)


def test_a_training_works_on_a_copy_of_a_logger(tmp_path: Path) -> None:
    journal = Journal(file=tmp_path / "journal")
    for _ in range(2):  # twice in one process
        train(small(trainer={"epochs": 1}), loggers=[journal])
    assert set(vars(journal)) == {"timeout_seconds", "file", "knows_steps"}
    assert len({line["id"] for line in calls(journal.file, "finish")}) == 2


def test_parameters_are_plain_values_and_infinite_ones_are_kept() -> None:
    values = collect_hyperparameters(small(optimizer=AdamW(weight_decay=0.1), train={"prefetch": 3}))
    assert values["optimizer"] == "AdamW"
    assert values["trainer.jit_compile"] is False
    assert values["train.prefetch"] == 3
    assert values["optimizer.clip_norm"] == "none"


def test_the_event_files_may_have_another_directory(tmp_path: Path) -> None:
    train(small(tmp_path / "run_1", trainer={"epochs": 1}), loggers=[TensorBoard(log_dir=tmp_path / "all")])
    for folder in (tmp_path / "all" / "run_1", tmp_path / "run_1" / "tensorboard"):
        assert {path.name for path in folder.iterdir()} == {"train", "val", "hparams"}


@pytest.mark.slow
def test_tensorboard_without_directory_is_the_one_that_is_always_there(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 1}), loggers=[TensorBoard()])
    assert len(list((tmp_path / "run" / "tensorboard" / "train").iterdir())) == 1


# After a resume.


def logging_run(folder: Path, **changes: Any) -> Small:
    """Return a training with a journal."""
    return small(folder / "run", loggers=[Journal(file=folder / "journal")], **changes)


KILLED_AT = {
    "log_params 1": [],
    "log_metrics 2": [12],
    "after log_metrics 2": [12, 24],
    "after log_summary 3": [12, 24],
    "log_best 2": [12, 24],
    "log_artifact 1": [12, 24, 36],
}


def showing_run(folder: Path) -> Small:
    """Return a training with a journal, and with summaries."""
    return logging_run(folder, evaluator=Shown())


@pytest.mark.slow
@pytest.mark.parametrize("point", KILLED_AT)
def test_a_killed_run_continues_in_the_same_run_and_repeats_no_step(point: str, plain: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from test_loggers import *; train(showing_run(Path(sys.argv[1])))"
    environment = {**os.environ, FAILURE: f"{point}=kill"}
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parent, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert steps(tmp_path / "journal") == KILLED_AT[point]
    train(showing_run(tmp_path), Resume())
    assert steps(tmp_path / "journal") == [12, 24, 36]
    shown = {(line["step"], line["name"]) for line in calls(tmp_path / "journal", "log_summary")}
    assert shown == {(step, name) for step in (12, 24, 36) for name in ("val_ramp", "val_note")}
    assert [line["step"] for line in calls(tmp_path / "journal", "log_best")] == [12, 24, 36]
    assert {line["id"] for line in Journal.lines(tmp_path / "journal")} == {"run-0"}
    assert differences(plain, tmp_path / "run") == []


def ids(folder: Path) -> list[str]:
    """Return the run of each epoch."""
    return [line["id"] for line in calls(folder / "journal", "log_metrics")]


def stop(folder: Path, **settings: Any) -> Small:
    """Train until a signal in the second validation; return the scenario."""
    scenario = small(
        folder / "run",
        evaluator=StopsInValidation(marker=folder / "stop"),
        trainer={"keep_every_n": 1},
        loggers=[Journal(file=folder / "journal", **settings)],
    )
    with pytest.raises(Interrupted):
        train(scenario)
    assert calls(folder / "journal", "finish")[0]["status"] == "stopped"
    assert calls(folder / "journal", "log_artifact") == []
    return scenario


@pytest.mark.parametrize("knows_steps", [slow(False), slow(True)])
def test_a_stopped_run_continues_in_the_same_run(knows_steps: bool, tmp_path: Path) -> None:
    train(stop(tmp_path, knows_steps=knows_steps), Resume())
    assert steps(tmp_path / "journal") == [12, 24, 36]
    assert ids(tmp_path) == ["run-0"] * 3
    assert [line["resumed"] for line in calls(tmp_path / "journal", "start")] == [False, True]


@pytest.mark.slow
def test_changed_parameters_begin_a_run_that_is_linked_to_the_first(tmp_path: Path) -> None:
    scenario = stop(tmp_path)
    changed = dataclasses.replace(scenario, optimizer=Adam(beta_1=0.8))
    train(changed, Resume())
    assert steps(tmp_path / "journal") == [12, 24, 36]
    first, second, third = ids(tmp_path)
    assert first != second == third
    assert calls(tmp_path / "journal", "start")[1]["parent"] == "run-0"
    train(changed, Resume())  # the parameters of the second run
    assert calls(tmp_path / "journal", "start")[2]["resumed"] is True
    assert steps(tmp_path / "journal") == [12, 24, 36]


@pytest.mark.slow
def test_an_earlier_epoch_begins_a_run_that_is_linked_to_the_first(tmp_path: Path) -> None:
    scenario = logging_run(tmp_path, trainer={"keep_every_n": 1})
    train(scenario)
    for number in (1, 2):  # each time another one
        train(scenario, Resume(epoch=1))
        assert steps(tmp_path / "journal")[3 * number :] == [24, 36] if number == 1 else [24, 36, 24, 36]
    starts = calls(tmp_path / "journal", "start")
    assert [line["parent"] for line in starts] == [None, starts[0]["id"], starts[1]["id"]]


@pytest.mark.slow
def test_a_logger_that_is_added_gets_the_epochs_before(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 2}))
    train(small(tmp_path / "run"), Resume(), loggers=[Journal(file=tmp_path / "journal")])
    assert steps(tmp_path / "journal") == [12, 24, 36]
    train(small(tmp_path / "run", trainer={"epochs": 4}), Resume())
    train(small(tmp_path / "run", trainer={"epochs": 4}), Resume(), loggers=[Journal(file=tmp_path / "journal")])
    assert steps(tmp_path / "journal") == [12, 24, 36]  # not those of another run


def log_resumed(
    file: Path, history: Sequence[LoggedEpoch], new: Sequence[LoggedEpoch], branches: bool = False, batch: int = 8
) -> None:
    """Log new epochs as a process does that was resumed after others."""
    records = LoggedRuns(OutputDir(file.parent))
    threads = [
        LoggerThread(each, LoggedRun("run", "Small"), {"batch": batch}, history, branches, records)
        for each in (Journal(file=file), TensorBoard(log_dir=file.parent / "events"))
    ]
    for thread in threads:
        thread.start()
        for epoch in new:
            thread.put(epoch)
        thread.finish("done")
        thread.wait(30)
        thread.close()


def runs(file: Path) -> dict[str, list[int]]:
    """Return the steps of each run."""
    return {
        line["id"]: [each["step"] for each in calls(file, "log_metrics") if each["id"] == line["id"]]
        for line in Journal.lines(file)
    }


def test_all_epochs_are_logged_if_the_steps_begin_at_a_smaller_number(tmp_path: Path) -> None:
    file, first = tmp_path / "journal", epochs(2)
    log_resumed(file, [], first)
    larger_batches = [LoggedEpoch(epoch, 5 * epoch, {"epoch": epoch}) for epoch in (3, 4, 5)]
    log_resumed(file, first, larger_batches[:2], batch=16)
    log_resumed(file, [*first, *larger_batches[:2]], larger_batches[2:], batch=16)
    assert list(runs(file).values()) == [[10, 20], [15, 20, 25]]


@pytest.mark.parametrize("branches", [False, True])
def test_a_server_that_was_away_during_a_resumed_training_gets_its_epochs_after_the_next_resume(
    branches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, all_epochs = tmp_path / "journal", epochs(5)
    log_resumed(file, [], all_epochs[:2])
    monkeypatch.setenv(FAILURE, "start=ConnectionError")
    first = 1 if branches else 2
    log_resumed(file, all_epochs[:first], all_epochs[first:4], branches)
    monkeypatch.delenv(FAILURE)
    log_resumed(file, all_epochs[:4], all_epochs[4:])
    expected = [[10, 20], [20, 30, 40, 50]] if branches else [[10, 20, 30, 40, 50]]
    assert list(runs(file).values()) == expected
    assert [line["resumed"] for line in calls(file, "start")] == [False, not branches]


def test_a_damaged_record_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "loggers.json").write_text('{"format_version": 1, "loggers": [{"settings": 3}]}')
    LoggedRuns(OutputDir(tmp_path))
    (message,) = warnings(caplog)
    assert "loggers.json: loggers.0.settings" in message
    assert "loggers begin new runs" in message


# Failures.

FAILURES = {
    "start=ValueError": ("in `start`", 3),
    "log_params=ValueError": ("in `log_params`", 0),
    "log_metrics 2=ValueError": ("in `log_metrics`", 1),
    "log_metrics=FileNotFoundError": ("in `log_metrics`", 3),
    "log_metrics 2=exit": ("SystemExit", 2),
    "finish=ValueError": ("in `finish`", 0),
}


@pytest.mark.parametrize("failure", [each if each == "log_metrics 2=ValueError" else slow(each) for each in FAILURES])
def test_a_fault_of_a_logger_is_one_warning_and_changes_no_bit(
    failure: str, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, failure)
    train(logging_run(tmp_path))
    text, num_lost = FAILURES[failure]
    messages = [message for message in warnings(caplog) if "logger" in message]
    assert text in messages[0]
    assert "the training continues" in messages[0]
    lost = [f"logger Journal: {pluralize(num_lost, 'row')} of history.csv could not be logged completely"]
    assert messages[1:] == (lost if num_lost else [])
    assert differences(plain, tmp_path / "run") == []


def test_the_line_of_the_user_comes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, "log_metrics=ValueError")
    feed(Journal(file=tmp_path / "journal"), 3)
    first, second, third, fourth = warnings(caplog)[0].splitlines()
    assert "journal.py, line" in first
    assert "raise" in second
    assert third == "ValueError: the service is away"
    assert fourth == "Raised by the logger Journal in `log_metrics`; the training continues without these values."


def epochs(number: int) -> list[LoggedEpoch]:
    """Return epochs."""
    return [LoggedEpoch(epoch, 10 * epoch, {"epoch": epoch, "loss": 1 / epoch}) for epoch in range(1, number + 1)]


def feed(logger: Logger, number: int, **settings: Any) -> LoggerThread:
    """Log epochs, and wait for the end."""
    thread = LoggerThread(logger, LoggedRun("run", "Small"), {"rate": math.inf}, **settings)
    thread.start()
    for epoch in epochs(number):
        thread.put(epoch)
    thread.finish("done")
    thread.wait(30)
    thread.close()
    return thread


def test_a_fault_in_log_summary_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, "log_summary=ValueError")
    thread = LoggerThread(Journal(file=tmp_path / "journal"), LoggedRun("run", "Small"), {})
    thread.start()
    thread.put(LoggedEpoch(1, 10, {"epoch": 1, "loss": 0.5}, {"val_note": Text("good")}))
    thread.finish("done")
    thread.wait(30)
    thread.close()
    first, *others = warnings(caplog)
    assert "in `log_summary`; the training continues" in first
    assert others == ["logger Journal: 1 row of history.csv could not be logged completely"]


def test_a_server_that_is_away_is_reported_once_and_the_end_is_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, "log_metrics=ConnectionError")
    feed(Journal(file=tmp_path / "journal"), 4)
    assert warnings(caplog) == [
        "logger Journal: the service is away; the training continues, values are sent later",
        "logger Journal: 4 rows of history.csv could not be logged completely",
    ]


def test_values_are_sent_when_the_server_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(FAILURE, "log_metrics 2=ConnectionError")
    feed(Journal(file=tmp_path / "journal"), 4)
    assert steps(tmp_path / "journal") == [10, 20, 30, 40]
    assert len(warnings(caplog)) == 1
    assert "logger Journal: works again" in caplog.text


def test_a_full_queue_drops_epochs_and_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, "start=0.5")
    feed(Journal(file=tmp_path / "journal"), 50, queue_size=8)
    assert steps(tmp_path / "journal") == [10 * epoch for epoch in range(1, 9)]
    assert warnings(caplog) == [
        "logger Journal: 8 rows of history.csv are waiting; further ones are dropped",
        "logger Journal: 42 rows of history.csv could not be logged completely",
    ]


def test_a_server_that_never_answers_delays_only_the_end_and_that_for_the_given_time(
    plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAILURE, "log_metrics 1=600")
    monkeypatch.setattr(logger_calls, "SLOW_CALL_S", 0.3)
    scenario = small(tmp_path / "run", loggers=[Journal(file=tmp_path / "journal", timeout_seconds=0.5)])
    train(scenario)
    messages = [message for message in warnings(caplog) if "logger" in message]
    assert messages == [
        "logger Journal: no answer for 0 s; the training continues",
        "logger Journal: 3 rows of history.csv could not be logged completely; `resume-training` logs them",
    ]
    assert differences(plain, tmp_path / "run") == []


@pytest.mark.slow
def test_a_stopped_training_waits_a_shorter_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAILURE, "log_metrics 1=600")
    monkeypatch.setattr(training_loggers, "STOP_TIMEOUT_S", 0.5)
    with pytest.raises(Interrupted):
        train(logging_run(tmp_path, evaluator=StopsInValidation(marker=tmp_path / "stop")))


@pytest.mark.slow
def test_a_signal_at_the_end_shortens_the_wait_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAILURE, "log_artifact 1=stop")
    monkeypatch.setattr(training_loggers, "STOP_TIMEOUT_S", 0.5)
    train(logging_run(tmp_path, trainer={"epochs": 1}))


def test_a_failed_training_is_marked(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(logging_run(tmp_path, optimizer=SGD(), learning_rate=Constant(lr=1e30)))
    assert calls(tmp_path / "journal", "finish")[0]["status"] == "failed"


@pytest.mark.slow
def test_a_failure_before_the_training_starts_no_logger(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        train(logging_run(tmp_path, trainer={"no_train_scope": "no such layer"}))
    assert not (tmp_path / "journal").exists()


# Choosing one.


class NeedsAPackage(Logger):
    """Requires a package that nobody has."""

    required_packages = ("a_package_that_nobody_has",)


def test_a_missing_package_is_named_before_the_training(tmp_path: Path) -> None:
    message = "--loggers.0 NeedsAPackage: a_package_that_nobody_has is not installed; pip install"
    with pytest.raises(UsageError, match=re.escape(message.removeprefix("--loggers.0"))):
        train(small(tmp_path / "run", loggers=[NeedsAPackage()]))


def test_a_folder_with_the_name_of_a_package_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NeedsAPackage.required_packages[0]).mkdir()  # as wandb/ in the current folder
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="is not installed"):
        train(small(loggers=[NeedsAPackage()]))


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_a_time_limit_must_be_a_number(seconds: float) -> None:
    with pytest.raises(UsageError, match="timeout_seconds"):
        train(small(loggers=[Journal(timeout_seconds=seconds)]))
