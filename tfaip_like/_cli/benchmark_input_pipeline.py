"""`benchmark-input-pipeline SCENARIO [flags]`: measure the throughput of the input pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._inspection.benchmark import Benchmark, run_benchmark
from tfaip_like._utils.console import echo
from tfaip_like._utils.interruption import graceful_shutdown_signals

COMMAND = ScenarioCommand(
    program="benchmark-input-pipeline",
    purpose="Measure the throughput of the input pipeline of a scenario, and report its bottleneck. Ctrl-C ends the "
    "measurement early.",
    group="benchmark",
    options=Benchmark,
)


def benchmark_input_pipeline(argv: Sequence[str]) -> None:
    """Measure the input pipeline that the command line describes."""
    parsed = COMMAND.read_scenario(argv)
    if parsed is None:
        return
    with graceful_shutdown_signals() as interrupt:
        echo(run_benchmark(parsed.scenario, cast(Benchmark, parsed.options), interrupt).report)


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, benchmark_input_pipeline)


if __name__ == "__main__":
    main()
