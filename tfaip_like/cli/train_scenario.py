"""`train-scenario SCENARIO [flags]`: trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfaip_like.cli.command import native_notes_hidden, run_command
from tfaip_like.cli.completion import ASK
from tfaip_like.cli.scenario_flags import ScenarioCommand
from tfaip_like.devices import choose_devices
from tfaip_like.interrupt import catch_interrupts
from tfaip_like.lazy import choose_backend, start_backend
from tfaip_like.train import train

COMMAND = ScenarioCommand(
    program="train-scenario",
    purpose="Trains a scenario: a module (scenarios.tutorial), a class (pkg.module:Class) or a file (my_scenario.py).",
)


def train_scenario(argv: Sequence[str]) -> None:
    """Trains the scenario that the command line describes."""
    if argv[:1] == [ASK]:
        print("\n".join(COMMAND.complete(argv[1:])))
        return
    scenario = COMMAND.scenario(argv)
    if scenario is not None:
        choose_backend(scenario.device.backend)
        # Noted, not raised: libraries swallow a KeyboardInterrupt that hits them while they are imported.
        with catch_interrupts() as interrupt, native_notes_hidden():
            choose_devices(scenario.device)
            start_backend()
        interrupt.check()
        train(scenario)


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, train_scenario, sys.argv[1:]))


if __name__ == "__main__":
    main()
