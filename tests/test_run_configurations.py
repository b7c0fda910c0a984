"""Run configurations for Visual Studio Code and PyCharm name what is there, with flags that exist."""

from __future__ import annotations

import importlib
import json
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import REPOSITORY

from tfaip_like._cli.command_line import Command, ParamsCommand
from tfaip_like._cli.scenario_command import ScenarioCommand

WORKSPACE = {"${workspaceFolder}": str(REPOSITORY), "$PROJECT_DIR$": str(REPOSITORY)}
WORKSPACE |= {"${input:scenario}": "scenarios.tutorial"}


def of_vscode() -> Mapping[str, Sequence[str]]:
    launch = json.loads((REPOSITORY / ".vscode/launch.json").read_text())
    return {one["name"]: [one.get("program") or one["module"], *one["args"]] for one in launch["configurations"]}


def of_pycharm() -> Mapping[str, Sequence[str]]:
    found = {}
    for file in sorted((REPOSITORY / ".run").glob("*.run.xml")):
        (configuration,) = ET.parse(file).getroot()
        options = {option.get("name"): option.get("value", "") for option in configuration.iter("option")}
        words = [options["SCRIPT_NAME"], *shlex.split(options["PARAMETERS"])]
        found[configuration.get("name", "")] = words
    return found


def test_both_editors_have_the_same_configurations() -> None:
    def expanded(words: Sequence[str]) -> list[str]:
        for variable, value in WORKSPACE.items():
            words = [word.replace(variable, value) for word in words]
        return list(words)

    assert {name: expanded(words) for name, words in of_vscode().items()} == {
        name: expanded(words) for name, words in of_pycharm().items()
    }


@pytest.mark.parametrize(("name", "words"), of_pycharm().items())
def test_configurations_refer_to_existing_programs_and_flags(name: str, words: Sequence[str]) -> None:
    program, *arguments = words
    if program.endswith(".py"):
        assert Path(program.replace("$PROJECT_DIR$", str(REPOSITORY))).is_file()
        program = "tfaip_like._cli.train_scenario"
    command: Command = importlib.import_module(program).COMMAND
    if isinstance(command, ScenarioCommand) and not command.resumes_run:
        assert command.read_scenario(arguments) is not None
    elif isinstance(command, ParamsCommand):
        line = command.read(arguments)
        assert line is not None
        line.apply_to(command.tree(()))
