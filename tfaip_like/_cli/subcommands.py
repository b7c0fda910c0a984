"""A command with subcommands: each takes words, and flags that are the parameters of a class."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like._cli.command import print_version
from tfaip_like._cli.params_command import ParamsCommand
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like.params import Params
from tfaip_like.params._base import field_types
from tfaip_like.params._flags import Flag


@dataclass(frozen=True)
class Subcommand:
    """`PROGRAM NAME words --flags`."""

    name: str
    words: str
    """The words it takes, for help: `BATCH [RUN ...]`."""
    purpose: str
    options: type[Params]
    run: Callable[[list[str], Any, list[Flag]], None]
    """Called with the words, the options and the flags that are passed on."""
    forwarded_flags_help: str = ""
    """What other flags are for, if it takes any."""

    def __call__(self, program: str, argv: Sequence[str]) -> None:
        """Runs it, or prints what its own flags ask for."""
        more = f" Other flags are {self.forwarded_flags_help}." if self.forwarded_flags_help else ""
        command = ParamsCommand(
            f"{program} {self.name}",
            f"{self.purpose}{more}",
            self.words,
            lambda words: self.options(),
            self._is_forwarded,
        )
        if (line := command.read(argv)) is not None:
            self.run(list(line.words), line.apply_to(self.options()), list(line.others))

    def _is_forwarded(self, name: str) -> bool:
        own = field_types(self.options)
        is_mistyped = "." not in name and bool(difflib.get_close_matches(name, own, cutoff=0.8))
        return bool(self.forwarded_flags_help) and name.partition(".")[0] not in own and not is_mistyped


def run_subcommand(program: str, purpose: str, commands: Sequence[Subcommand], argv: Sequence[str]) -> None:
    """Runs the subcommand that the first word names."""
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        rows = "\n".join(f"  {command.name:<9} {command.purpose}" for command in commands)
        echo(f"{program} COMMAND ...\n\n{purpose}\n\n{rows}\n\n{program} COMMAND --help shows the flags of each.")
        return
    if name == "--version":
        print_version(program)
        return
    known = {command.name: command for command in commands}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"{program} has no command {name!r}; {hint}")
    known[name](program, argv[1:])
