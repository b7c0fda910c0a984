"""`doctor [flags]`: examines this machine for what trainings need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from tfaip_like.cli.command import run_command
from tfaip_like.cli.params_command import ParamsCommand
from tfaip_like.cli.start import start
from tfaip_like.console import say
from tfaip_like.errors import TrainingError, UsageError
from tfaip_like.inspection.doctor import Doctor, examine, verdict_of

COMMAND = ParamsCommand(
    program="doctor",
    purpose="Examines this machine: packages, memory, directories, SLURM, devices; says what is wrong and how to fix "
    "it. Exit code 1 if anything is wrong.",
    placeholder="",
    tree=lambda words: Doctor(),
)


def doctor(argv: Sequence[str]) -> None:
    """Examine what the command line describes."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if line.words:
        raise UsageError(f"{line.words[0]}: doctor takes flags only; --output_dir {line.words[0]} examines a directory")
    report_on(cast(Doctor, line.applied(Doctor())))


def report_on(settings: Doctor) -> None:
    """Print findings as they are made.

    Raises:
        TrainingError: when something is wrong.
    """
    findings = []
    for finding in examine(settings, start):
        say(str(finding))
        findings.append(finding)
    if verdict := verdict_of(findings):
        raise TrainingError(verdict)
    say("Nothing is wrong.")


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, doctor, sys.argv[1:]))


if __name__ == "__main__":
    main()
