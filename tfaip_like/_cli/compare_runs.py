"""`compare-runs DIR...`: compare the differing parameters and the results of runs."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.params import Params

logger = logging.getLogger(__name__)

PROGRAM = "compare-runs"


class CompareOptions(Params):
    """Output and order of a comparison."""

    sort: str | None = None
    """Column to sort by: best_epoch, val_loss, seconds, a parameter. By default the best run comes first."""

    csv: Path | None = None
    """CSV file for the whole table, with unrounded numbers."""

    html: Path | None = None
    """HTML file for the table and the overlaid curves of all runs."""

    json: bool = False
    """Print JSON instead of the table."""

    def check(self) -> None:
        self.require(self.csv is None or self.csv != self.html, "csv", "is the same file as --html")


COMMAND = ParamsCommand(
    program=PROGRAM,
    purpose="Compare runs: the parameters that differ between them, and their results, the best run first.\n"
    "DIR is a run directory, or any directory with runs below it.",
    placeholder="DIR ...",
    tree=lambda words: CompareOptions(),
)


def compare_runs(argv: Sequence[str]) -> None:
    """Compare the runs that the command line names."""
    line = COMMAND.read(argv)
    if line is None:
        return
    settings = cast(CompareOptions, line.apply_to(CompareOptions()))
    if not line.words:
        raise UsageError(
            f"missing argument DIR: run directories, or directories with runs below them. "
            f"usage: {PROGRAM} DIR ... [--FLAG VALUE ...]"
        )
    compare([Path(word) for word in line.words], settings)


def compare(folders: Sequence[Path], settings: CompareOptions) -> None:
    """Compare the runs in some directories and below them."""
    # Imported here, because `experiments show` imports this module: it lists 1,000 runs in the time of these imports.
    from tfaip_like._report.comparison import Comparison
    from tfaip_like._report.comparison_page import render_comparison
    from tfaip_like._runs.reader import read_runs

    runs = read_runs(folders)
    for problem in dict.fromkeys(problem for run in runs for problem in run.problems):
        logger.warning("%s; skipping it", problem)
    comparison = Comparison(runs).sorted_by(settings.sort)
    if settings.csv is not None:
        _write_file("csv", settings.csv, comparison.csv())
    if settings.html is not None:
        _write_file("html", settings.html, render_comparison(comparison, settings.html))
    echo(comparison.json() if settings.json else comparison.table(_terminal_width()))


def _terminal_width() -> int | None:
    """Return the width of the terminal; None in a pipe, where nothing is truncated."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write_file(flag: str, file: Path, text: str) -> None:
    try:
        atomic_write_text(file, text)
    except OSError as error:
        raise UsageError(f"--{flag} {file}: cannot be written: {error.strerror or error}") from error


def main() -> None:
    """Run the console script."""
    run_program(PROGRAM, compare_runs)


if __name__ == "__main__":
    main()
