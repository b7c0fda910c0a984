"""`new-scenario NAME [--template TEMPLATE | --from SCENARIO]`: write a scenario to start from."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import keyword
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import tfaip_like
from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand, ParsedCommandLine
from tfaip_like._cli.scenario_blueprints import (
    Blueprint,
    class_name,
    shipped_blueprint,
    shipped_scenarios,
    template_blueprint,
)
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory
from tfaip_like.params import Params


class NewScenarioOptions(Params):
    """Options of `new-scenario`."""

    template: Literal["general", "listfile"] = "general"
    """general: samples made or read by Python code. listfile: samples are files named in list files."""


FROM_FLAG = "from"

COMMAND = ParamsCommand(
    program="new-scenario",
    purpose="Write the directory NAME with a scenario and its test, from a template or from a shipped scenario.",
    placeholder="NAME",
    tree=lambda words: NewScenarioOptions(),
    extra_flags=lambda: {FROM_FLAG: f"--from SCENARIO    copy a shipped scenario: {', '.join(shipped_scenarios())}"},
)


def new_scenario(argv: Sequence[str]) -> None:
    """Write the scenario that a command line describes."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if len(line.words) != 1:
        raise UsageError("expected one argument NAME: new-scenario NAME [--template listfile | --from SCENARIO]")
    name = line.words[0]
    options = cast(NewScenarioOptions, line.apply_to(NewScenarioOptions()))
    source = _read_source(line)
    blueprint = template_blueprint(options.template) if source is None else shipped_blueprint(source)
    _check_name(name, blueprint)
    with atomic_directory(Path(name)) as folder:
        for file, text in blueprint.render(name).items():
            (folder / file).write_text(text, encoding="utf-8")
        if source is None and options.template == "listfile":
            from tfaip_like._templates.listfile.draw_samples import draw_samples

            draw_samples(folder / "samples")
    print(_describe_template(name) if source is None else _describe_copy(name, source))
    if missing := blueprint.missing_packages():
        print(f"Not installed: {', '.join(missing)}. Run: pip install 'tfaip_like[scenarios]'")


def _read_source(line: ParsedCommandLine) -> str | None:
    """Return the shipped scenario that `--from` names, None without that flag."""
    if FROM_FLAG not in line.common:
        return None
    words = line.common[FROM_FLAG].words
    if line.flags or line.files:
        raise UsageError("--from and --template are mutually exclusive")
    choices = shipped_scenarios()
    source = words[0].removeprefix("scenarios.") if len(words) == 1 else " ".join(words)
    if source not in choices:
        near = difflib.get_close_matches(source, choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--from: expected one of {', '.join(choices)}, got {source or 'nothing'}{hint}")
    return source


def _describe_template(name: str) -> str:
    return (
        f"{name}/scenario.py is a working scenario; adapt it to your data.\n"
        f"  train-scenario {name} --trainer.output_dir runs/{name}   trains it\n"
        f"  train-scenario {name} --help   lists its flags\n"
        f"  pytest {name}   runs its test"
    )


def _describe_copy(name: str, source: str) -> str:
    """Return the docstring of a copied scenario, which says how to get data and how to train."""
    usage = ast.get_docstring(ast.parse(Path(name, "scenario.py").read_text(encoding="utf-8")))
    return f"{name}/ is a copy of the scenario {source}. pytest {name} runs its test.\n\n{usage}"


def _check_name(name: str, blueprint: Blueprint) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or name != name.lower():
        raise UsageError(
            f"{name}: not a valid package name; use lower-case letters, digits and _, and no digit at the start"
        )
    if Path(name).exists():
        raise UsageError(f"{name}: already exists; choose another name, or remove it first")
    if class_name(name) in {*tfaip_like.__all__, *blueprint.identifiers()}:
        raise UsageError(f"{name}: the name of its class, {class_name(name)}, is already in use; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"{name}: an installed module has this name; choose another name")


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, new_scenario)


if __name__ == "__main__":
    main()
