"""`new-scenario` writes scenarios that train, with tests that pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_server import REPOSITORY
from conftest import Run, slow

from tfaip_like._cli.command import EXIT_USAGE, run_command
from tfaip_like._cli.new_scenario import new_scenario
from tfaip_like._cli.scenario_blueprints import class_name, shipped_scenarios

TEMPLATES = ("general", "listfile")
USAGE = "expected one argument NAME: new-scenario NAME [--template listfile | --from SCENARIO]"
SHIPPED = ["gan", "jets", "minimal", "network_zoo", "sequences", "text_lines", "track_trigger", "tutorial", "vae"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--template general", "--from tutorial"],
        slow([*(f"--template {template}" for template in TEMPLATES), *(f"--from {source}" for source in SHIPPED)]),
    ],
)
def test_the_tests_of_new_scenarios_pass_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"my_thing_{number}" for number in range(len(flags))]
    for name, words in zip(names, flags, strict=True):
        new_scenario([name, *words.split()])
    done = run("pytest", "-q", *names, cwd=tmp_path, environment={"PYTHONPATH": str(REPOSITORY)}, timeout=900)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_every_shipped_scenario_can_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped_scenarios() == SHIPPED
    monkeypatch.chdir(tmp_path)
    for source in SHIPPED:
        new_scenario([f"my_{source}", "--from", source])
        texts = {file.name: file.read_text() for file in (tmp_path / f"my_{source}").iterdir()}
        assert {"__init__.py", "scenario.py", "test_scenario.py"} <= texts.keys()
        assert f"train-scenario my_{source} " in texts["scenario.py"] or source == "minimal"
        assert "scenarios." not in "".join(texts.values())
        assert f"class {class_name(f'my_{source}')}(" in texts["scenario.py"]
    assert "scenario: my_jets\n" in (tmp_path / "my_jets" / "plan.yaml").read_text()


def test_a_copy_lists_packages_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    new_scenario(["my_thing", "--from", "tutorial"])
    assert "Not installed: scikit-learn. Run: pip install 'tfaip_like[scenarios]'" in capsys.readouterr().out


def test_help_and_completion_know_the_flag_from(quick_run: Run) -> None:
    text = " ".join(quick_run("new-scenario", "--help").stdout.split())
    assert f"copy a shipped scenario: {', '.join(SHIPPED)}" in text
    assert quick_run("new-scenario", "--complete", "my_thing", "--fr").stdout == "--from\n"


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_new_scenarios_train_in_an_empty_folder(tmp_path: Path, run: Run, template: str) -> None:
    assert run("new-scenario", "my_thing", "--template", template, cwd=tmp_path).returncode == 0
    done = run("train-scenario", "my_thing", "--trainer.epochs", 40, "--trainer.output_dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    validated = run("lav-scenario", "run", cwd=tmp_path)
    (accuracy,) = (float(line.split()[1]) for line in validated.stdout.splitlines() if line.startswith("accuracy"))
    assert accuracy > 0.95


def test_each_word_of_the_template_gets_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_scenario(["two_words"])
    text = (tmp_path / "two_words" / "scenario.py").read_text()
    assert "class TwoWords(Scenario):" in text
    assert "train-scenario two_words" in text
    assert not [file for file in (tmp_path / "two_words").iterdir() if "emplate" in file.read_text()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", USAGE),
        ("two names", USAGE),
        ("json", "json: an installed module has this name; choose another name"),
        ("a-b", "a-b: not a valid package name; use lower-case letters, digits and _, and no digit at the start"),
        ("there", "there: already exists; choose another name, or remove it first"),
        ("model", "model: the name of its class, Model, is already in use; choose another name"),
        ("tagger --from jets", "tagger: the name of its class, Tagger, is already in use; choose another name"),
        ("mine --template list", "--template: expected one of general, listfile, got 'list'"),
        ("mine --template general --from jets", "--from and --template are mutually exclusive"),
        ("mine --from", f"--from: expected one of {', '.join(SHIPPED)}, got nothing"),
        ("mine --from jest", f"--from: expected one of {', '.join(SHIPPED)}, got jest; did you mean jets?"),
        ("mine --from jets tracks", f"--from: expected one of {', '.join(SHIPPED)}, got jets tracks"),
    ],
)
def test_invalid_arguments_are_reported(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert run_command("new-scenario", new_scenario, words.split()) == EXIT_USAGE
    assert capsys.readouterr().err == f"new-scenario: {says}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
