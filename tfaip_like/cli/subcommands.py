"""A command with subcommands: each takes words, and flags that are the parameters of a class."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like.cli.command import print_version
from tfaip_like.errors import UsageError
from tfaip_like.params.apply import Resolved, apply
from tfaip_like.params.base import ParamsBase, field_types, with_defaults
from tfaip_like.params.flags import Flag, flag_settings, split_words
from tfaip_like.params.help import help_text
from tfaip_like.params.tree import check_tree


@dataclass(frozen=True)
class Subcommand:
    """`PROGRAM NAME words --flags`."""

    name: str
    words: str
    """The words it takes, for help: `BATCH [RUN ...]`."""
    purpose: str
    options: type[ParamsBase]
    run: Callable[[list[str], Any, list[Flag]], None]
    """Called with the words, the options and the flags that are passed on."""
    passes_on: str = ""
    """What other flags are for, if it takes any."""

    def __call__(self, program: str, argv: Sequence[str]) -> None:
        """Runs it, or prints its help."""
        words, flags = split_words(argv)
        if any(flag.name == "help" for flag in flags):
            print(self.help(program))
            return
        own = [flag for flag in flags if flag.name.split(".")[0] in field_types(self.options)]
        others = [flag for flag in flags if flag not in own]
        for flag in others:
            if not self.passes_on or self._is_mistyped(flag):
                apply(Resolved(with_defaults(self.options)), flag_settings([flag]))  # says what was meant
        options = check_tree(apply(Resolved(with_defaults(self.options)), flag_settings(own)).tree)
        self.run(words, options, others)

    def _is_mistyped(self, flag: Flag) -> bool:
        return "." not in flag.name and bool(
            difflib.get_close_matches(flag.name, field_types(self.options), cutoff=0.8)
        )

    def help(self, program: str) -> str:
        """Its words and flags."""
        more = f"\n\nOther flags are {self.passes_on}." if self.passes_on else ""
        head = f"{program} {self.name} {self.words} [--FLAG VALUE ...]\n\n{self.purpose}{more}"
        return f"{head}\n\n{help_text(with_defaults(self.options))}"


def run_subcommand(program: str, purpose: str, commands: Sequence[Subcommand], argv: Sequence[str]) -> None:
    """Runs the subcommand that the first word names."""
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        rows = "\n".join(f"  {command.name:<9} {command.purpose}" for command in commands)
        print(f"{program} COMMAND ...\n\n{purpose}\n\n{rows}\n\n{program} COMMAND --help shows the flags of each.")
        return
    if name == "--version":
        print_version(program)
        return
    known = {command.name: command for command in commands}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"there is no {program} {name}; {hint}")
    known[name](program, argv[1:])
