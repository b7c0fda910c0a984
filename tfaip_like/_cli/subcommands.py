"""Commands with subcommands, each with positional arguments and with flags for the fields of a class."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like._cli.command import print_version
from tfaip_like._cli.command_line import ParamsCommand
from tfaip_like._cli.completion import COMPLETE_FLAG, make_completion_script
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like.params import Params
from tfaip_like.params._base import field_types
from tfaip_like.params._flags import Flag
from tfaip_like.params._help import wrap_paragraphs, wrap_terms


@dataclass(frozen=True)
class Subcommand:
    """Subcommand `PROGRAM NAME ARGUMENTS --flags`."""

    name: str
    placeholder: str
    """Positional arguments as the help shows them: `BATCH [RUN ...]`."""
    purpose: str
    options: type[Params]
    run: Callable[[list[str], Any, list[Flag]], None]
    """Function of the positional arguments, the options and the forwarded flags."""
    forwarded_flags_help: str = ""
    """Description of other flags; empty if the subcommand takes none."""

    def __call__(self, program: str, argv: Sequence[str]) -> None:
        """Run the subcommand, or print what its common flags ask for."""
        other_flags = f" Other flags are {self.forwarded_flags_help}." if self.forwarded_flags_help else ""
        command = ParamsCommand(
            program=f"{program} {self.name}",
            purpose=f"{self.purpose}{other_flags}",
            placeholder=self.placeholder,
            tree=lambda words: self.options(),
            is_forwarded=self._is_forwarded,
        )
        if (line := command.read(argv)) is not None:
            self.run(list(line.words), line.apply_to(self.options()), list(line.forwarded))

    def _is_forwarded(self, name: str) -> bool:
        own_flags = field_types(self.options)
        is_mistyped = "." not in name and bool(difflib.get_close_matches(name, own_flags, cutoff=0.8))
        return bool(self.forwarded_flags_help) and name.partition(".")[0] not in own_flags and not is_mistyped


def run_subcommand(program: str, purpose: str, subcommands: Sequence[Subcommand], argv: Sequence[str]) -> None:
    """Run the subcommand that the first argument names.

    Args:
        program: name of the command.
        purpose: first paragraph of the help.
        subcommands: in the order of the help.
        argv: arguments without the name of the program.

    Raises:
        UsageError: if there is no such subcommand, and for every mistake in its own command line.
    """
    name, *words = argv or ["--help"]
    by_name = {command.name: command for command in subcommands}
    if name in by_name:
        by_name[name](program, words)
    elif name in ("--help", "-h"):
        rows = wrap_terms((f"{command.name:<9} {command.purpose}" for command in subcommands), width=10)
        hint = f"{program} COMMAND --help shows the flags of each."
        echo(f"{program} COMMAND ...\n\n{wrap_paragraphs(purpose)}\n\n{rows}\n\n{hint}")
    elif name == "--version":
        print_version(program)
    elif name == "--completion":
        echo(make_completion_script(program, words))
    elif name == COMPLETE_FLAG:
        _complete(program, by_name, words)
    else:
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(by_name)}"
        raise UsageError(f"{program} has no command {name!r}; {hint}")


def _complete(program: str, subcommands: Mapping[str, Subcommand], words: Sequence[str]) -> None:
    """Print the candidates for the last argument: subcommands, or those of the named subcommand."""
    if len(words) > 1 and words[0] in subcommands:
        subcommands[words[0]](program, [COMPLETE_FLAG, *words[1:]])
    elif len(words) <= 1:
        echo("\n".join(name for name in subcommands if name.startswith("".join(words))))
