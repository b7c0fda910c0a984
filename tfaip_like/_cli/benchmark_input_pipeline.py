"""`benchmark-input-pipeline SCENARIO [flags]`: measures the input pipeline alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.completion import ASK
from tfaip_like._cli.scenario_flags import ScenarioCommand
from tfaip_like._inspection.benchmark import Benchmark, measure
from tfaip_like._utils.console import say
from tfaip_like._utils.interruption import catch_interrupts

COMMAND = ScenarioCommand(
    program="benchmark-input-pipeline",
    purpose="Reads the data of a scenario as fast as they come and says what limits them, until Ctrl-C.",
    group="benchmark",
    settings=Benchmark,
)


def benchmark_input_pipeline(argv: Sequence[str]) -> None:
    """Measures the pipeline that the command line describes."""
    if argv[:1] == [ASK]:
        say("\n".join(COMMAND.complete(argv[1:])))
        return
    asked = COMMAND.scenario(argv)
    if asked is None:
        return
    scenario = asked.scenario
    settings = cast(Benchmark, COMMAND.own_settings(scenario))
    with catch_interrupts() as interrupt:
        say(measure(scenario, settings, interrupt))


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, benchmark_input_pipeline, sys.argv[1:]))


if __name__ == "__main__":
    main()
