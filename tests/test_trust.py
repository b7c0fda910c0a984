"""Trust: which code is imported.

Code is imported from where Python finds it, from the current directory, and from a path that was typed; from a
directory of a run only if this user has trained or generated it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from batches import experiments, make_fake_batch
from conftest import Run

from tfaip_like import UsageError
from tfaip_like._user_code.trust import (
    UntrustedCodeError,
    allow_untrusted_code,
    check_trusted,
    is_import_allowed,
    is_recorded,
    record_trusted_code,
)
from tfaip_like.params._class_source import check_class_in_source

SCENARIO = """
import numpy as np
from tfaip_like import ArraySource, Data, Model, Scenario, Spec, keras

class Points(Data):
    inputs = {"x": Spec((4,))}
    targets = {"y": Spec((), "int32")}
    def source(self, mode):
        x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
        return ArraySource({"x": x}, {"y": (x[:, 0] > 0).astype(int)})

class Net(Model):
    def build(self, inputs):
        return {"p": keras.layers.Dense(2, activation="softmax")(inputs["x"])}
    def loss(self, inputs, targets, outputs):
        return {"ce": keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["p"])}

class Trusting(Scenario):
    data: Data = Points()
    model: Model = Net()
"""

EVIL = """
import pathlib
pathlib.Path({ran!r}).touch()
"""


@pytest.fixture(scope="module")
def trained(quick_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a folder with `project/my_scenario.py` and a run of it in `run`, trained from elsewhere."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "project").mkdir()
    (folder / "project" / "my_scenario.py").write_text(SCENARIO)
    words = ("--trainer.epochs", "1", "--trainer.output_dir", "run")
    done = quick_run("train-scenario", "project/my_scenario.py", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "x.jsonl").write_text('{"x": [1, 2, 3, 4]}\n')
    return folder


class Received:
    """What somebody else sent: a run with a Python file in it that leaves a trace when it is imported."""

    def __init__(self, folder: Path, trained: Path, quick_run: Run):
        self.folder, self.quick_run = folder, quick_run
        self.directory = folder / "received"
        shutil.copytree(trained / "run", self.directory)
        (folder / "x.jsonl").write_text('{"x": [1, 2, 3, 4]}\n')
        self.ran = folder / "ran"
        evil = EVIL.format(ran=str(self.ran)) + SCENARIO
        for place in (self.directory, self.directory / "best"):
            (place / "evil.py").write_text(evil)

    def names(self, tag: str, *files: str) -> None:
        for name in files:
            file = self.directory / name
            file.write_text(json.dumps({**json.loads(file.read_text()), "class": tag}))

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.quick_run(
            *words, cwd=cwd or self.folder, environment={"XDG_CONFIG_HOME": str(self.folder / "configuration")}
        )

    def has_run(self) -> bool:
        found = self.ran.exists()
        self.ran.unlink(missing_ok=True)
        return found


@pytest.fixture
def received(tmp_path: Path, trained: Path, quick_run: Run) -> Received:
    return Received(tmp_path, trained, quick_run)


FILES = ("best/scenario_params.json", "export/scenario_params.json", "trainer_params.json")
COMMANDS = (
    ("predict-scenario", "received", "--predict.files", "x.jsonl"),
    ("predict-scenario", "received/best", "--predict.files", "x.jsonl"),
    ("predict-scenario", "received", "--help"),
    ("predict-scenario", "--complete", "received", "--pre"),
    ("lav-scenario", "received"),
    ("lav-scenario", "received", "--help"),
    ("lav-scenario", "--complete", "received", "--l"),
    ("resume-training", "received"),
    ("resume-training", "received", "--help"),
    ("resume-training", "received", "--show"),
    ("resume-training", "--complete", "received", "--tr"),
    ("train-scenario", "--params", "received/trainer_params.json", "--show"),
    ("train-scenario", "--params", "received/trainer_params.json", "--help"),
    ("train-scenario", "received/evil.py", "--help"),
    ("train-scenario", "--complete", "received/evil.py", "--tr"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_runs_code_of_a_received_directory(received: Received, words: tuple[str, ...]) -> None:
    received.names("received.evil:Trusting", *FILES)
    done = received.run(*words)
    assert not received.has_run()
    is_text_only = "--help" in words or "--complete" in words
    assert done.returncode == (0 if is_text_only or "--predict.files" in words else 2), done.stderr
    assert "Traceback" not in done.stderr
    if "--complete" not in words:
        printed = " ".join((done.stdout + done.stderr).split())
        assert "received/evil.py: untrusted code, not imported" in printed
        assert "--trust_code" in printed


@pytest.mark.parametrize(
    "words", [("predict-scenario", "best", "--help"), ("lav-scenario", "."), ("resume-training", ".")]
)
def test_a_received_directory_is_not_trusted_when_it_is_the_current_one(
    received: Received, words: tuple[str, ...]
) -> None:
    received.names("evil:Trusting", *FILES)
    done = received.run(*words, cwd=received.directory)
    assert not received.has_run()
    assert "evil.py: untrusted code, not imported" in done.stdout + done.stderr


def test_code_next_to_an_export_without_its_run_is_not_run(received: Received) -> None:
    for name in ("trainer_params.json", "run.json"):
        (received.directory / name).unlink()
    received.names("received.evil:Trusting", *FILES[:2])
    assert received.run("lav-scenario", "received/best").returncode == 2
    assert not received.has_run()


def test_a_processor_of_a_received_pipeline_is_not_imported(received: Received) -> None:
    file = received.directory / "best" / "pipeline.json"
    processors = [{"class": "received.best.evil:Trusting"}]
    file.write_text(json.dumps({**json.loads(file.read_text()), "processors": processors}))
    done = received.run("predict-scenario", "received", "--predict.files", "x.jsonl")
    assert done.returncode == 2
    assert "best/evil.py: untrusted code, not imported" in done.stderr
    assert not received.has_run()


def test_a_scenario_file_that_a_received_run_names_is_not_run(received: Received) -> None:
    outside = received.folder / "sent" / "my_scenario.py"
    outside.parent.mkdir()
    outside.write_text(EVIL.format(ran=str(received.ran)) + SCENARIO)
    record = json.loads((received.directory / "run.json").read_text())
    (received.directory / "run.json").write_text(json.dumps({**record, "scenario_file": str(outside)}))
    for words in (("resume-training", "received"), ("lav-scenario", "received")):
        done = received.run(*words)
        assert done.returncode == 2
        assert f"{outside}, which is not recorded as trusted" in done.stderr
        assert "--trust_code" in done.stderr
        assert not received.has_run()
    assert received.run("lav-scenario", "received", "--trust_code").returncode == 0
    assert received.has_run()


@pytest.mark.parametrize("words", [COMMANDS[0], ("lav-scenario", "received"), ("resume-training", "received")])
def test_the_flag_runs_code_of_a_received_directory(received: Received, words: tuple[str, ...]) -> None:
    received.names("received.evil:Trusting", *FILES)
    done = received.run(*words, "--trust_code")
    assert done.returncode == 0, done.stderr
    assert received.has_run()


# A scenario that was named by the path of its file.


@pytest.mark.parametrize(
    "words", ["lav-scenario run", "resume-training run", "lav-scenario run/best --help", "resume-training run --show"]
)
def test_the_file_of_a_scenario_is_found_again(trained: Path, tmp_path: Path, quick_run: Run, words: str) -> None:
    program, run, *more = words.split()
    done = quick_run(program, trained / run, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not shown" not in done.stdout


@pytest.mark.slow
def test_the_file_of_a_scenario_can_be_edited_and_the_run_be_moved(
    trained: Path, tmp_path: Path, quick_run: Run
) -> None:
    shutil.copytree(trained / "run", tmp_path / "moved")
    file = trained / "project" / "my_scenario.py"
    file.write_text(f"{SCENARIO}\n# edited\n")
    done = quick_run("resume-training", tmp_path / "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_code_in_a_run_directory_that_was_trained_here_is_trusted_until_it_changes(
    tmp_path: Path, quick_run: Run
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "inside.py").write_text(SCENARIO)
    words = ("--trainer.epochs", "1", "--trainer.output_dir", "run")
    done = quick_run("train-scenario", "run/inside.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert quick_run("lav-scenario", "run", cwd=tmp_path).returncode == 0
    (tmp_path / "run" / "inside.py").write_text(f"{SCENARIO}\n# changed\n")
    done = quick_run("lav-scenario", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "--trust_code" in done.stderr


# Batches.


def test_a_received_batch_is_not_run_until_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_fake_batch(tmp_path, "  one: {}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of somebody else"))
    for words in (("submit", batch.path), ("add", batch.path), ("cancel", batch.path)):
        done = experiments(tmp_path, *words)
        assert done.returncode == 2, done.stdout
        assert "job.sh: untrusted script, not run: its batch was not generated by you" in done.stderr
    assert not (batch.path / "events").exists()
    done = experiments(tmp_path, "submit", batch.path, "--trust_code", "--wait")
    assert done.returncode == 0, done.stderr
    assert experiments(tmp_path, "add", batch.path).returncode == 0


@pytest.mark.slow
def test_changed_code_in_a_batch_is_rejected(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  one: {}\n")
    [module] = list(batch.code_dir.rglob("experts.py"))
    module.write_text(f"{module.read_text()}\nprint('changed')\n")
    done = experiments(tmp_path, "add", batch.path)
    assert done.returncode == 2
    assert "experts.py: untrusted code, not imported" in done.stderr
    assert "changed" not in done.stdout


# Modules that are not scenarios.


@pytest.mark.parametrize(
    ("source", "is_class"),
    [
        ("from tfaip_like import Scenario\nclass X(Scenario): pass", True),
        ("import tfaip_like as t\nclass X(t.Scenario): pass", True),
        ("import tfaip_like\nclass X(tfaip_like.Scenario): pass", True),
        ("from tfaip_like import *\nclass X(Scenario): pass", True),
        (
            "from typing import Generic\nfrom tfaip_like import Data\nclass B(Data): pass\nclass X(B, object): pass",
            True,
        ),
        ("try:\n  from tfaip_like import Data as D\nexcept ImportError: pass\nclass X(D): pass", True),
        ("from other_module import X", True),
        ("from other_module import Base\nclass X(Base): pass", True),
        ("import other_module\nclass X(other_module.Base): pass", True),
        ("from other_module import *", True),
        ("from tfaip_like import Data\ndef make(): return Data\nX = make()", True),
        ("class X: pass", False),
        ("class X(dict): pass", False),
        ("import os\nclass X(os.PathLike): pass", False),
        ("def X(): pass", False),
        ("Y = 1", False),
        ("from os import system as X", False),
        ("from this_module import X", False),
        ("import os as X", False),
    ],
)
def test_a_module_is_imported_only_if_its_source_has_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, is_class: bool
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "this_module.py").write_text(f"{source}\nraise SystemExit('it was imported')\n")
    other = "from tfaip_like import Data\nclass Base(Data): pass\nclass X(Base): pass\nraise SystemExit('imported')"
    (tmp_path / "other_module.py").write_text(other)
    if is_class:
        check_class_in_source("this_module:X")
    else:
        with pytest.raises(UsageError, match="this_module has no Params class 'X'; module not imported"):
            check_class_in_source("this_module:X")
    assert not {"this_module", "other_module"} & set(sys.modules)


def test_packages_around_a_module_are_not_imported_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "outer_package" / "names" / "inner").mkdir(parents=True)
    (tmp_path / "outer_package" / "__init__.py").write_text("raise SystemExit('it was imported')")
    (tmp_path / "outer_package" / "names" / "inner" / "here.py").write_text("class X: pass")
    with pytest.raises(UsageError, match="has no Params class 'X'"):
        check_class_in_source("outer_package.names.inner.here:X")


@pytest.mark.parametrize("tag", ["os:system", "antigravity:X", "this:Y", "turtle:Turtle", "numpy:ndarray", "pip:main"])
def test_modules_of_python_and_of_other_packages_are_not_imported(received: Received, tag: str) -> None:
    received.names(tag, *FILES)
    done = received.run("lav-scenario", "received")
    assert done.returncode == 2
    assert "no" in done.stderr
    assert "Zen of Python" not in done.stdout


# The record.


def test_trust_records_contents_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "trainer_params.json").write_text("{}")
    inside, outside = run / "code.py", tmp_path / "code.py"
    for file in (inside, outside):
        file.write_text("x = 1")
    check_trusted(outside)
    with pytest.raises(UntrustedCodeError):
        check_trusted(inside)
    with allow_untrusted_code():
        check_trusted(inside)
    record_trusted_code([inside, outside])
    check_trusted(inside)
    for file in (inside, outside):
        file.write_text("x = 2")
    assert is_recorded(outside, is_unchanged=False)
    assert not is_recorded(outside)
    assert is_import_allowed(outside)
    assert not is_import_allowed(inside)
    with pytest.raises(UntrustedCodeError):
        check_trusted(inside)


def test_code_that_is_linked_into_or_out_of_a_run_belongs_to_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "trainer_params.json").write_text("{}")
    (run / "code.py").write_text("y = 1")
    (tmp_path / "outside.py").symlink_to(run / "code.py")
    (run / "link.py").symlink_to(tmp_path / "outside.py")
    for file in (tmp_path / "outside.py", run / "link.py"):
        with pytest.raises(UntrustedCodeError):
            check_trusted(file)


@pytest.mark.slow
def test_a_recorded_file_is_not_trusted_next_to_another_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("z = 1")
    record_trusted_code([tmp_path / "mine.py"])
    run = tmp_path / "run"
    run.mkdir()
    (run / "trainer_params.json").write_text("{}")
    shutil.copy(tmp_path / "mine.py", run / "mine.py")
    check_trusted(run / "mine.py")
    (run / "helper.py").write_text("evil = 1")
    with pytest.raises(UntrustedCodeError):
        check_trusted(run / "mine.py")


def test_many_processes_record_concurrently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    files = [tmp_path / f"{number}.py" for number in range(8)]
    for file in files:
        file.write_text(file.name)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=record_trusted_code, args=([file],)) for file in files]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(map(is_recorded, files))


def test_a_record_that_cannot_be_written_or_read_does_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    (tmp_path / "code.py").write_text("")
    record_trusted_code([tmp_path / "code.py"])
    assert not is_recorded(tmp_path / "code.py")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    os.makedirs(tmp_path / "tfaip_like")
    (tmp_path / "tfaip_like" / "trusted_code.json").write_text("[1")
    assert not is_recorded(tmp_path / "code.py")
