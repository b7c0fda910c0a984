"""All commands share parsing, help, completion and common flags."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run

from tfaip_like import UsageError
from tfaip_like._cli.command_line import COMMON_FLAGS, Command
from tfaip_like._cli.experiments import experiments
from tfaip_like._cli.resume_training import COMMAND as RESUME
from tfaip_like._cli.train_scenario import COMMAND as TRAIN
from tfaip_like.params._base import CLASS_KEY

COMMANDS = [
    importlib.import_module(f"tfaip_like._cli.{name}").COMMAND
    for name in (
        "benchmark_input_pipeline",
        "compare_runs",
        "doctor",
        "evaluate_predictions",
        "inspect_samples",
        "lav_scenario",
        "new_scenario",
        "predict_scenario",
        "resume_training",
        "train_scenario",
    )
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Directory with the parameters of a run."""
    graph = {CLASS_KEY: "CNN", "filters": [2]}
    params = {CLASS_KEY: "scenarios.tutorial:Tutorial", "model": {"graph": graph}}
    (tmp_path / "trainer_params.json").write_text(json.dumps(params))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.program)
def test_every_command_answers_the_common_flags(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*argv: str) -> str:
        assert command.read(argv) is None
        return capsys.readouterr().out

    shown_help = printed("--help")
    assert shown_help.startswith(" ".join(f"{command.program} {command.placeholder}".split()))
    words = " ".join(shown_help.split())
    assert all(" ".join(text.split()) in words for text in COMMON_FLAGS.values())
    assert printed("--version").startswith(f"{command.program} ")
    assert command.program in printed("--completion", "fish")
    assert set(printed("--complete", "--").split()) >= {f"--{name}" for name in COMMON_FLAGS}
    with pytest.raises(UsageError, match=r"--params: expected a JSON or YAML file"):
        command.read(["--params"])
    for flag in ("--version", "--show"):
        with pytest.raises(UsageError, match=f"{flag} takes no value, got yes"):
            command.read([flag, "yes"])
    with pytest.raises(UsageError, match="--help takes one word to search for"):
        command.read(["--help", "two", "words"])


def test_subcommands_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*argv: str) -> str:
        experiments(argv)
        return capsys.readouterr().out

    assert printed("--complete", "sub").split() == ["submit"]
    assert {"generate", "submit", "show"} <= set(printed("--complete", "").split())
    assert printed("--complete", "submit", "batch", "--dry").split() == ["--dry_run"]
    assert printed("--complete", "unknown", "--dry").split() == []
    assert printed("--completion", "bash") == printed("submit", "--completion", "bash")
    assert printed("--version").startswith("experiments ")


def test_help_and_completion_of_a_resumed_run_show_its_variants(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RESUME.read([str(run_dir), "--help"]) is None
    assert "--model.graph.filters INT ...  [2]" in capsys.readouterr().out
    RESUME.read(["--complete", str(run_dir), "--model.graph.f"])
    assert capsys.readouterr().out.split() == ["--model.graph.filters"]


def test_help_of_a_parameter_file_shows_its_scenario(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert TRAIN.read(["--params", str(run_dir / "trainer_params.json"), "--help"]) is None
    assert "--model.graph.filters INT ...  [2]" in capsys.readouterr().out


def test_values_are_validated_before_they_are_shown() -> None:
    with pytest.raises(UsageError, match="--array 0: must be at least 1"):
        experiments(["generate", "--array", "0", "--show"])


def test_a_crash_of_native_code_prints_the_line_that_caused_it(run: Run, tmp_path: Path) -> None:
    code = """
import ctypes
from tfaip_like._cli.command import run_program
from tfaip_like._utils.native_stderr import suppress_native_stderr

def crash(argv):
    with suppress_native_stderr():
        ctypes.string_at(0)

run_program("train-scenario", crash)
"""
    (tmp_path / "crash.py").write_text(code)
    done = run(sys.executable, tmp_path / "crash.py", environment={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert 'crash.py", line 8 in crash' in done.stderr
