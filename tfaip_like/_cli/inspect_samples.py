"""`inspect-samples SCENARIO [flags]`: show the samples that the model receives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._inspection.inspect_samples import InspectSamples, inspect_samples
from tfaip_like._utils.console import echo

COMMAND = ScenarioCommand(
    program="inspect-samples",
    purpose="Show samples as read and after each processor: images as PNG files, other arrays as numbers.",
    group="inspect",
    options=InspectSamples,
)


def inspect_from_command_line(argv: Sequence[str]) -> None:
    """Show the samples that the command line describes."""
    parsed = COMMAND.read_scenario(argv)
    if parsed is not None:
        echo(inspect_samples(parsed.scenario, cast(InspectSamples, parsed.options)))


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, inspect_from_command_line)


if __name__ == "__main__":
    main()
