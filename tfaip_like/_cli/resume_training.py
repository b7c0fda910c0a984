"""`resume-training OUTPUT_DIR [flags]`: resume a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._cli.train_scenario import train_from_command_line
from tfaip_like.settings import Resume

COMMAND = ScenarioCommand(
    program="resume-training",
    placeholder="OUTPUT_DIR",
    trains=True,
    purpose="Resume a run exactly where it stopped; flags override stored parameters.",
    group="resume",
    options=Resume,
    resumes_run=True,
)


def resume_training(argv: Sequence[str]) -> None:
    """Resume the run that the command line names."""
    parsed = COMMAND.read_scenario(argv)
    if parsed is not None:
        train_from_command_line(parsed.scenario, parsed.explicit_flags, cast(Resume, parsed.options))


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, resume_training)


if __name__ == "__main__":
    main()
