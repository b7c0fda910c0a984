"""`look-at-samples SCENARIO [flags]`: shows what the network would see."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.completion import ASK
from tfaip_like._cli.scenario_flags import ScenarioCommand
from tfaip_like._inspection.inspect_samples import Look, look
from tfaip_like._utils.console import say

COMMAND = ScenarioCommand(
    program="look-at-samples",
    purpose="Shows samples as they are read and after each processor: images as PNG files, arrays in numbers.",
    group="look",
    settings=Look,
)


def look_at_samples(argv: Sequence[str]) -> None:
    """Shows the samples that the command line describes."""
    if argv[:1] == [ASK]:
        say("\n".join(COMMAND.complete(argv[1:])))
        return
    asked = COMMAND.scenario(argv)
    if asked is not None:
        scenario = asked.scenario
        say(look(scenario, cast(Look, COMMAND.own_settings(scenario))))


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, look_at_samples, sys.argv[1:]))


if __name__ == "__main__":
    main()
