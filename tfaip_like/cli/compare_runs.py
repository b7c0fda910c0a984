"""`compare-runs DIR...`: what differs between runs, in parameters and in what became of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tfaip_like.cli.command import print_version, run_command
from tfaip_like.cli.completion import ASK, completion_script
from tfaip_like.errors import UsageError
from tfaip_like.files import write_text
from tfaip_like.params import Params
from tfaip_like.params.apply import Resolved, apply
from tfaip_like.params.flags import Flag, flag_settings, split_words
from tfaip_like.params.help import completions, help_text
from tfaip_like.params.tree import check_tree

PROGRAM = "compare-runs"
OWN_FLAGS = {
    "help": "--help             show the flags",
    "version": "--version          print the version",
    "completion": "--completion SHELL print a script for bash, zsh or fish that completes flags",
}


class Compare(Params):
    """What is written of a comparison, and in which order."""

    sort: str | None = None
    """The column to sort by: best_epoch, val_loss, seconds, a parameter ...; by default the best run comes first."""

    csv: Path | None = None
    """File for the whole table, with numbers as they are."""

    html: Path | None = None
    """File for a page: the table, and the curves of all runs one over another."""

    json: bool = False
    """Print JSON instead of the table."""

    def check(self) -> None:
        self.require(self.csv is None or self.csv != self.html, "csv", "is the file of --html, too")


def compare_runs(argv: Sequence[str]) -> None:
    """Compares the runs that the command line names."""
    if argv[:1] == [ASK]:
        print("\n".join(_complete(list(argv[1:]))))
        return
    words, flags = split_words(argv)
    own = {flag.name: flag for flag in flags if flag.name in OWN_FLAGS}
    if _answers(own):
        return
    settings = cast(Compare, check_tree(apply(Resolved(Compare()), flag_settings(flags, reserved=OWN_FLAGS)).tree))
    if not words:
        raise UsageError(
            f"which runs? {PROGRAM} DIR ... [--FLAG VALUE ...], with the folders of runs, or folders with runs "
            "below them, first"
        )
    compare([Path(word) for word in words], settings)


def compare(folders: Sequence[Path], settings: Compare) -> None:
    """Compares the runs in some folders and below them."""
    # Only now: `experiments`, which can compare too, shows 1,000 runs in the time that these take to be imported.
    from tfaip_like.report.comparison import Comparison
    from tfaip_like.report.comparison_page import comparison_page
    from tfaip_like.report.run import read_runs

    comparison = Comparison(read_runs(folders)).sorted_by(settings.sort)
    if settings.csv is not None:
        _write("csv", settings.csv, comparison.csv())
    if settings.html is not None:
        _write("html", settings.html, comparison_page(comparison, settings.html))
    print(comparison.json() if settings.json else comparison.table(_width()))


def _answers(own: dict[str, Flag]) -> bool:
    """Prints what is asked for instead of a comparison."""
    for name in ("help", "version"):
        if name in own and own[name].words:
            raise UsageError(f"--{name} takes no value, got {' '.join(own[name].words)}")
    if "version" in own:
        print_version(PROGRAM)
    elif "completion" in own:
        print(completion_script(PROGRAM, own["completion"].words))
    elif "help" in own:
        print(_help())
    return bool(own)


def _help() -> str:
    own = "\n".join(f"  {text}" for text in OWN_FLAGS.values())
    return (
        f"{PROGRAM} DIR ... [--FLAG VALUE ...]\n\n"
        "Shows what differs between runs: parameters that are not the same in all, and outcomes, the best run first.\n"
        "DIR is the folder of a run, or any folder with runs somewhere below it.\n\n"
        f"{own}\n\n{help_text(Compare())}"
    )


def _complete(words: list[str]) -> list[str]:
    own = [f"--{name}" for name in OWN_FLAGS if words and f"--{name}".startswith(words[-1])]
    return [*own, *completions(Compare(), words)] if words and words[-1].startswith("-") else []


def _width() -> int | None:
    """Of the terminal; in a pipe nothing is cut off."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(flag: str, file: Path, text: str) -> None:
    try:
        write_text(file, text)
    except OSError as error:
        raise UsageError(f"--{flag} {file}: cannot be written: {error.strerror or error}") from error


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(PROGRAM, compare_runs, sys.argv[1:]))


if __name__ == "__main__":
    main()
