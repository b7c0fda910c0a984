"""`train-scenario SCENARIO [flags]`: train a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfaip_like._cli.command import run_program
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._training import train_with_flags
from tfaip_like._utils.console import echo
from tfaip_like.params._ignored_flags import ExplicitFlags
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

VERIFY_SWITCH, DOCTOR_SWITCH = "verify", "doctor"
COMMAND = ScenarioCommand(
    program="train-scenario",
    trains=True,
    extra_switches={
        VERIFY_SWITCH: "--verify           train a few steps with and without interruption, compare the bits, and exit",
        DOCTOR_SWITCH: "--doctor           check whether this machine can run the training, and exit",
    },
    purpose="Train a scenario: a module (scenarios.tutorial), a class (pkg.module:Class) or a file (my_scenario.py).",
)


def train_scenario(argv: Sequence[str]) -> None:
    """Train the scenario that the command line describes."""
    parsed = COMMAND.read_scenario(argv)
    if parsed is None:
        return
    scenario = parsed.scenario
    if DOCTOR_SWITCH in parsed.switches:
        # Imported here, because `--help` need not wait for it.
        from tfaip_like._cli.doctor import print_findings
        from tfaip_like._inspection.doctor import Doctor

        settings = Doctor(output_dir=scenario.trainer.output_dir or Path(), device=scenario.device)
        print_findings(settings, "--trainer.output_dir")
    elif VERIFY_SWITCH in parsed.switches:
        initialize_runtime(scenario.device)
        # Imported here, because it imports Keras, whose backend the scenario determines.
        from tfaip_like._training.resume_verification import verify_resume

        echo(verify_resume(scenario))
    else:
        train_from_command_line(scenario, parsed.explicit_flags)


def train_from_command_line(scenario: Scenario, explicit_flags: ExplicitFlags, resume: Resume | None = None) -> None:
    """Initialize the backend without its start-up output, and train.

    Args:
        scenario: scenario to train.
        explicit_flags: parameters that flags set explicitly.
        resume: settings for resuming; None starts a new run.
    """
    initialize_runtime(scenario.device)
    train_with_flags(scenario, resume, explicit_flags)


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, train_scenario)


if __name__ == "__main__":
    main()
