"""`new-scenario NAME [--template TEMPLATE]`: writes a scenario to begin with."""

from __future__ import annotations

import importlib.util
import keyword
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import tfaip_like
from tfaip_like._cli.command import run_command
from tfaip_like._cli.params_command import ParamsCommand
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory
from tfaip_like.params import Params

TEMPLATES_DIR = Path(__file__).parent.parent / "_templates"


class NewScenarioOptions(Params):
    """What is written."""

    template: Literal["general", "listfile"] = "general"
    """general: samples that Python code makes or reads. listfile: samples that are files, named in lists."""


COMMAND = ParamsCommand(
    program="new-scenario",
    purpose="Writes the folder NAME with a scenario that trains at once, and its test.",
    placeholder="NAME",
    tree=lambda words: NewScenarioOptions(),
)


def new_scenario(argv: Sequence[str]) -> None:
    """Writes the scenario that the command line describes."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if len(line.words) != 1:
        raise UsageError("which name? new-scenario NAME [--template listfile], one word: my_scenario")
    name = line.words[0]
    settings = cast(NewScenarioOptions, line.apply_to(NewScenarioOptions()))
    _check_name(name)
    with atomic_directory(Path(name)) as folder:
        for file in sorted((TEMPLATES_DIR / settings.template).glob("*.py")):
            (folder / file.name).write_text(_fill_template(file.read_text(encoding="utf-8"), name), encoding="utf-8")
        if settings.template == "listfile":
            from tfaip_like._templates.listfile.draw_samples import draw_samples

            draw_samples(folder / "samples")
    print(
        f"{name}/scenario.py is a scenario that trains; change it to yours.\n"
        f"  train-scenario {name} --trainer.output_dir runs/{name}   trains it\n"
        f"  train-scenario {name} --help                     shows all it can be told\n"
        f"  pytest {name}                                    tests it"
    )


def _check_name(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or name != name.lower():
        raise UsageError(f"{name}: must be a name for a Python package: small letters, digits and _, no digit first")
    if Path(name).exists():
        raise UsageError(f"{name}: is there already; choose another name, or remove it first")
    if _class_name(name) in tfaip_like.__all__:
        raise UsageError(f"{name}: its class would be called {_class_name(name)}, as one of ours; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"{name}: a module of that name is installed; choose another name")


def _fill_template(text: str, name: str) -> str:
    """A file of a template under the name of the scenario."""
    return text.replace("Template", _class_name(name)).replace("template", name)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, new_scenario, sys.argv[1:]))


if __name__ == "__main__":
    main()
