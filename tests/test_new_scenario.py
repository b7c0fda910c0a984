"""What new-scenario writes is a scenario that trains, and its test passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, slow

from tfaip_like._cli.command import EXIT_USAGE, run_command
from tfaip_like._cli.new_scenario import new_scenario

TEMPLATES = ("general", "listfile")


@pytest.mark.parametrize("template", ["general", slow("listfile")])
def test_the_test_of_a_new_scenario_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    new_scenario(["my_thing", "--template", template])
    done = run("pytest", "-q", "my_thing", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


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
        ("", "which name? new-scenario NAME [--template listfile], one word: my_scenario"),
        ("two names", "which name? new-scenario NAME [--template listfile], one word: my_scenario"),
        ("json", "json: a module of that name is installed; choose another name"),
        ("a-b", "a-b: must be a name for a Python package: small letters, digits and _, no digit first"),
        ("there", "there: is there already; choose another name, or remove it first"),
        ("model", "model: its class would be called Model, as one of ours; choose another name"),
        ("mine --template list", "--template: expected one of general, listfile, got 'list'"),
    ],
)
def test_names_that_cannot_be_are_told(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert run_command("new-scenario", new_scenario, words.split()) == EXIT_USAGE
    assert capsys.readouterr().err == f"new-scenario: {says}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
