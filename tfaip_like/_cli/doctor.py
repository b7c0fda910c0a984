"""`doctor [flags]`: checks this machine for what trainings need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.params_command import ParamsCommand
from tfaip_like._cli.start import start
from tfaip_like._inspection.doctor import Doctor, examine, verdict_of
from tfaip_like._utils.console import say
from tfaip_like._utils.errors import TrainingError, UsageError

COMMAND = ParamsCommand(
    program="doctor",
    purpose="Checks this machine for trainings: packages, memory, directories, SLURM, devices; says how to fix "
    "problems. Exit code 1 if there are any.",
    placeholder="",
    tree=lambda words: Doctor(),
)


def doctor(argv: Sequence[str]) -> None:
    """Run the checks that the command line describes."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if line.words:
        raise UsageError(
            f"{line.words[0]}: unexpected argument; to check a directory, pass --output_dir {line.words[0]}"
        )
    report_on(cast(Doctor, line.applied(Doctor())))


def report_on(settings: Doctor, output_flag: str = "--output_dir") -> None:
    """Print findings as they are made.

    Args:
        output_flag: flag that names the output directory.

    Raises:
        TrainingError: if there is a problem.
    """
    findings = []
    for finding in examine(settings, start, output_flag):
        say(str(finding))
        findings.append(finding)
    if verdict := verdict_of(findings):
        raise TrainingError(verdict)
    say("No problems found.")


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, doctor, sys.argv[1:]))


if __name__ == "__main__":
    main()
