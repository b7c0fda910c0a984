"""The command line of a command that takes words, and flags for a tree of parameters that may depend on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._cli.command import print_version
from tfaip_like._cli.completion import ASK, completion_script
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._user_code.trust import TRUST_HELP, UntrustedCodeError, trusting
from tfaip_like._utils.console import say
from tfaip_like._utils.errors import UsageError
from tfaip_like.params import Params
from tfaip_like.params._apply import Node, Resolved, apply, checked, file_settings
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._flags import Flag, flag_settings, split_words
from tfaip_like.params._help import completions, help_text, search_text, show_text
from tfaip_like.params._store import read_values

TRUST = "trust_code"
OWN_FLAGS = {
    "help": "--help [WORD]      show the flags, or those that have to do with WORD",
    "show": "--show             print every value and where it came from, and stop",
    "params": "--params FILE ...  read parameters from JSON or YAML files; flags win",
    "version": "--version          print the version",
    "completion": "--completion SHELL print a script for bash, zsh or fish that completes flags",
}


def own_flags(program: str, flags: Sequence[Flag], switches: Collection[str] = ()) -> dict[str, Flag] | None:
    """The flags of a command itself, by their names; None if one of them was answered: version, completion.

    Args:
        switches: further ones without a value.

    Raises:
        UsageError: for a value where there is none, or none where there must be one.
    """
    own = {flag.name: flag for flag in flags if flag.name in (*OWN_FLAGS, *switches)}
    for name in ("version", "show", *switches):
        if name in own and own[name].words:
            raise UsageError(f"--{name} takes no value, got {' '.join(own[name].words)}")
    if "version" in own:
        print_version(program)
        return None
    if "completion" in own:
        print(completion_script(program, own["completion"].words))
        return None
    if "params" in own and not own["params"].words:
        raise UsageError("--params: name a JSON or YAML file")
    return own


@dataclass(frozen=True)
class Line:
    """What was asked for."""

    words: Sequence[str]
    """Those before the first flag."""
    settings: Sequence[Node]
    """Of files and flags, the last ones win."""
    others: Sequence[Flag] = ()
    """Flags that are passed on."""
    is_trusting: bool = False
    """Whether the code in the named directories may run."""

    def applied(self, tree: Params) -> Params:
        """A tree with what was set, checked.

        Raises:
            UsageError: for what does not fit.
        """
        return checked(_applied(tree, self.settings))  # type: ignore[return-value]


@dataclass(frozen=True)
class ParamsCommand:
    """Reads a command line.

    Args:
        placeholder: of its words in the help: `EXPORT_DIR...`.
        tree: the parameters, with their defaults for these words; for none of them too.
        passes_on: whether a flag, by its name, is for something else.
        runs_code: whether code in directories that are named may have to run, which `--trust_code` allows.
    """

    program: str
    purpose: str
    placeholder: str
    tree: Callable[[Sequence[str]], Params]
    passes_on: Callable[[str], bool] = lambda name: False
    runs_code: bool = False

    def read(self, argv: Sequence[str]) -> Line | None:
        """What was asked for; None if only text was wanted, which is printed.

        Raises:
            UsageError: for every mistake in the command line or in a file.
        """
        if argv[:1] == [ASK]:
            say("\n".join(self._complete(argv[1:])))
            return None
        words, flags = split_words(argv)
        own = own_flags(self.program, flags, self._switches)
        if own is None:
            return None
        with trusting(TRUST in own):
            return self._read(words, flags, own)

    def _read(self, words: list[str], flags: Sequence[Flag], own: Mapping[str, Flag]) -> Line | None:
        files = own["params"].words if "params" in own else ()
        settings = [file_settings(read_values(Path(file)), file) for file in files]
        others = [flag for flag in flags if self._is_for_others(flag)]
        line = Line(words, [*settings, self._settings(flags)], others, TRUST in own)
        if "help" in own or "show" in own:
            try:
                resolved = _applied(self.tree(words), line.settings)
            except (UntrustedCodeError, NoSuchModuleError) as error:
                if "help" not in own:
                    raise
                say(self._help(self.tree(()), own["help"], words))
                say(f"\nThe flags of its scenario are not shown. {error}")
                return None
            passed_on = "".join(f"\n{flag} {' '.join(flag.words)}  # passed on" for flag in line.others)
            say(self._help(resolved.tree, own["help"], words) if "help" in own else show_text(resolved) + passed_on)
            return None
        return line

    @property
    def _switches(self) -> dict[str, str]:
        return {TRUST: TRUST_HELP} if self.runs_code else {}

    @property
    def _own_flags(self) -> dict[str, str]:
        return {**OWN_FLAGS, **self._switches}

    def _is_for_others(self, flag: Flag) -> bool:
        return flag.name not in self._own_flags and self.passes_on(flag.name)

    def _settings(self, flags: Sequence[Flag]) -> Node:
        return flag_settings([flag for flag in flags if not self._is_for_others(flag)], reserved=[*self._own_flags])

    def _help(self, tree: ParamsBase, flag: Flag, words: Sequence[str]) -> str:
        if len(flag.words) > 1:
            raise UsageError("--help takes one word to search for")
        if flag.words:
            return search_text(tree, flag.words[0])
        own = "\n".join(f"  {text}" for text in self._own_flags.values())
        usage = " ".join([self.program, *(words or [self.placeholder]), "[--FLAG VALUE ...]"]).replace("  ", " ")
        return (
            f"{usage}\n\n{self.purpose}\n\n{own}\n\n"
            "Values in [brackets] are those in effect. Several words make a list. "
            f"The order of flags never matters.\n\n{help_text(tree)}"
        )

    def _complete(self, words: Sequence[str]) -> list[str]:
        try:
            before, flags = split_words(words[:-1])
            well_formed = [flag for flag in flags if flag.words]
            tree = _applied(self.tree(before), [self._settings(well_formed)]).tree
        except UsageError:
            return []
        own = [f"--{name}" for name in self._own_flags if f"--{name}".startswith(words[-1])] if words else []
        return [*own, *completions(tree, list(words))]


def _applied(tree: Params, settings: Sequence[Node]) -> Resolved:
    resolved = Resolved(tree)
    for node in settings:
        resolved = apply(resolved, node)
    return resolved
