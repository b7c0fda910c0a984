"""`resume-training OUTPUT_DIR [flags]`: goes on with a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.completion import COMPLETE_FLAG
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._cli.train_scenario import train_from_command_line
from tfaip_like._utils.console import echo
from tfaip_like.settings import Resume

COMMAND = ScenarioCommand(
    program="resume-training",
    trains=True,
    purpose="Goes on with a run, exactly where it stopped; a flag changes a parameter from there on.",
    group="resume",
    settings=Resume,
    resumes_run=True,
)


def resume_training(argv: Sequence[str]) -> None:
    """Goes on with the run that the command line names."""
    if argv[:1] == [COMPLETE_FLAG]:
        echo("\n".join(COMMAND.complete(argv[1:])))
        return
    asked = COMMAND.scenario(argv)
    if asked is not None:
        resume = cast(Resume, COMMAND.command_settings(asked.scenario))
        train_from_command_line(COMMAND.strip_command_group(asked.scenario), asked.given, resume)


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, resume_training, sys.argv[1:]))


if __name__ == "__main__":
    main()
