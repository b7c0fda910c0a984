"""`doctor [flags]`: check whether this machine can train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand
from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._inspection.doctor import Doctor, run_checks, summarize_failures
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import TrainingError, UsageError

COMMAND = ParamsCommand(
    program="doctor",
    purpose="Check whether this machine can train: packages, memory, directories, SLURM, devices. Prints how to fix "
    "each problem; the exit code is 1 if there is any.",
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
    print_findings(cast(Doctor, line.apply_to(Doctor())))


def print_findings(settings: Doctor, output_flag: str = "--output_dir") -> None:
    """Print each finding as soon as it is known.

    Args:
        settings: checks to run.
        output_flag: flag that names the output directory.

    Raises:
        TrainingError: if there is a problem.
    """
    findings = []
    for finding in run_checks(settings, initialize_runtime, output_flag):
        echo(str(finding))
        findings.append(finding)
    if verdict := summarize_failures(findings):
        raise TrainingError(verdict)
    echo("No problems found.")


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, doctor)


if __name__ == "__main__":
    main()
