"""`resume-training OUTPUT_DIR [flags]`: resume a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import COMMON_FLAGS
from tfaip_like._cli.completion import COMPLETE_FLAG
from tfaip_like._cli.scenario_command import ScenarioCommand
from tfaip_like._cli.train_scenario import train_from_command_line
from tfaip_like._runs.fetching import fetch_run, is_fetchable
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.errors import UsageError
from tfaip_like.params._flags import tokenize
from tfaip_like.settings import Resume

OUTPUT_DIR = "output_dir"
COMMAND = ScenarioCommand(
    program="resume-training",
    placeholder="OUTPUT_DIR",
    trains=True,
    extra_flags=lambda: {OUTPUT_DIR: "--output_dir DIR   directory for a run at a URL; by default its name"},
    purpose="Resume a run exactly where it stopped; flags override stored parameters. OUTPUT_DIR may be the URL "
    "of a run that --trainer.mirror_to has copied: it is downloaded first.",
    group="resume",
    options=Resume,
    resumes_run=True,
)


def resume_training(argv: Sequence[str]) -> None:
    """Resume the run that the command line names; one at a URL is downloaded."""
    with default_console_logging():
        parsed = COMMAND.read_scenario(_fetch_named_run(argv))
    if parsed is not None:
        train_from_command_line(parsed.scenario, parsed.explicit_flags, cast(Resume, parsed.options))


def _fetch_named_run(argv: Sequence[str]) -> list[str]:
    """Return a command line that names the downloaded run instead of its URL."""
    words, flags = tokenize(argv) if argv[:1] != [COMPLETE_FLAG] else ([], [])
    names = {flag.name for flag in flags}
    is_text_only = bool(names & (COMMON_FLAGS.keys() - {"params", "show"}))
    if is_text_only or len(words) != 1 or not is_fetchable(words[0]):
        if OUTPUT_DIR in names and not is_text_only:
            raise UsageError(f"--{OUTPUT_DIR}: only for a run at a URL; other runs resume in their directory")
        return list(argv)
    values = [flag.words for flag in flags if flag.name == OUTPUT_DIR]
    if values and len(values[0]) != 1:
        raise UsageError(f"--{OUTPUT_DIR}: expected a directory, got {' '.join(values[0]) or 'nothing'}")
    run_dir = fetch_run(words[0], Path(values[0][0]) if values else None)
    others = [word for flag in flags if flag.name != OUTPUT_DIR for word in (str(flag), *flag.words)]
    return [str(run_dir), *others]


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, resume_training)


if __name__ == "__main__":
    main()
