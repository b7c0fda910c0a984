"""A command with subcommands: each takes words, and flags that are the parameters of a class."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like.cli.command import print_version
from tfaip_like.cli.params_command import Line, ParamsCommand
from tfaip_like.errors import UsageError
from tfaip_like.params import Params
from tfaip_like.params.apply import Node
from tfaip_like.params.base import Place, field_types
from tfaip_like.params.flags import Flag


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
    passes_on: str = ""
    """What other flags are for, if it takes any."""

    def __call__(self, program: str, argv: Sequence[str]) -> None:
        """Runs it, or prints what its own flags ask for."""
        more = f" Other flags are {self.passes_on}." if self.passes_on else ""
        command = ParamsCommand(
            f"{program} {self.name}", f"{self.purpose}{more}", self.words, lambda words: self.options()
        )
        line = command.read(argv)
        if line is None:
            return
        others = self._take_others(line)
        self.run(list(line.words), line.applied(self.options()), others)

    def _take_others(self, line: Line) -> list[Flag]:
        """The flags that are not its own, taken out of the line if they are passed on."""
        others = []
        for name, node in list(line.settings[-1].children.items()):
            if not self.passes_on or name in field_types(self.options) or self._is_mistyped(name, node):
                continue
            del line.settings[-1].children[name]
            others += list(_flags_below(node, (name,)))
        return others

    def _is_mistyped(self, name: str, node: Node) -> bool:
        return not node.children and bool(difflib.get_close_matches(name, field_types(self.options), cutoff=0.8))


def _flags_below(node: Node, place: Place) -> Iterator[Flag]:
    if node.setting is not None:
        yield Flag(".".join(place), tuple(node.setting.words or ()))
    for name, child in node.children.items():
        yield from _flags_below(child, (*place, name))


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
