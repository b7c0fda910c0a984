"""The command line of a command that takes words, and flags for a tree of parameters that may depend on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._cli.command import print_version
from tfaip_like._cli.completion import COMPLETE_FLAG, make_completion_script
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._user_code.trust import TRUST_HELP, UntrustedCodeError, allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like.params import Params
from tfaip_like.params._apply import ResolvedParams, SettingsNode, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._files import read_param_file
from tfaip_like.params._flags import Flag, settings_from_flags, tokenize
from tfaip_like.params._help import complete_words, format_help, format_resolved_params, format_search_results

TRUST_FLAG = "trust_code"
COMMON_FLAGS = {
    "help": "--help [WORD]      show the flags, or those that have to do with WORD",
    "show": "--show             print every value and where it came from, and stop",
    "params": "--params FILE ...  read parameters from JSON or YAML files; flags win",
    "version": "--version          print the version",
    "completion": "--completion SHELL print a script for bash, zsh or fish that completes flags",
}


def parse_common_flags(program: str, flags: Sequence[Flag], switches: Collection[str] = ()) -> dict[str, Flag] | None:
    """The flags of a command itself, by their names; None if one of them was answered: version, completion.

    Args:
        switches: further ones without a value.

    Raises:
        UsageError: for a value where there is none, or none where there must be one.
    """
    own = {flag.name: flag for flag in flags if flag.name in (*COMMON_FLAGS, *switches)}
    for name in ("version", "show", *switches):
        if name in own and own[name].words:
            raise UsageError(f"--{name} takes no value, got {' '.join(own[name].words)}")
    if "version" in own:
        print_version(program)
        return None
    if "completion" in own:
        print(make_completion_script(program, own["completion"].words))
        return None
    if "params" in own and not own["params"].words:
        raise UsageError("--params: name a JSON or YAML file")
    return own


@dataclass(frozen=True)
class ParsedCommandLine:
    """What was asked for."""

    words: Sequence[str]
    """Those before the first flag."""
    settings: Sequence[SettingsNode]
    """Of files and flags, the last ones win."""
    others: Sequence[Flag] = ()
    """Flags that are passed on."""
    is_trusting: bool = False
    """Whether the code in the named directories may run."""

    def apply_to(self, tree: Params) -> Params:
        """A tree with what was set, checked.

        Raises:
            UsageError: for what does not fit.
        """
        return validate_resolved(_apply_settings(tree, self.settings))  # type: ignore[return-value]


@dataclass(frozen=True)
class ParamsCommand:
    """Reads a command line.

    Args:
        placeholder: of its words in the help: `EXPORT_DIR...`.
        tree: the parameters, with their defaults for these words; for none of them too.
        is_forwarded: whether a flag, by its name, is for something else.
        runs_code: whether code in directories that are named may have to run, which `--trust_code` allows.
        extra_flags: returns further flags -> their line in the help; they are passed on like forwarded ones.
    """

    program: str
    purpose: str
    placeholder: str
    tree: Callable[[Sequence[str]], Params]
    is_forwarded: Callable[[str], bool] = lambda name: False
    runs_code: bool = False
    extra_flags: Callable[[], Mapping[str, str]] = dict

    def read(self, argv: Sequence[str]) -> ParsedCommandLine | None:
        """What was asked for; None if only text was wanted, which is printed.

        Raises:
            UsageError: for every mistake in the command line or in a file.
        """
        if argv[:1] == [COMPLETE_FLAG]:
            echo("\n".join(self._complete(argv[1:])))
            return None
        words, flags = tokenize(argv)
        own = parse_common_flags(self.program, flags, self._switches)
        if own is None:
            return None
        with allow_untrusted_code(TRUST_FLAG in own):
            return self._read(words, flags, own)

    def _read(self, words: list[str], flags: Sequence[Flag], own: Mapping[str, Flag]) -> ParsedCommandLine | None:
        files = own["params"].words if "params" in own else ()
        settings = [settings_from_file(read_param_file(Path(file)), file) for file in files]
        others = [flag for flag in flags if self._is_forwarded_flag(flag)]
        line = ParsedCommandLine(words, [*settings, self._settings(flags)], others, TRUST_FLAG in own)
        if "help" in own or "show" in own:
            try:
                resolved = _apply_settings(self.tree(words), line.settings)
            except (UntrustedCodeError, NoSuchModuleError) as error:
                if "help" not in own:
                    raise
                echo(self._help(self.tree(()), own["help"], words))
                echo(f"\nThe flags of its scenario are not shown. {error}")
                return None
            passed_on = "".join(f"\n{flag} {' '.join(flag.words)}  # passed on" for flag in line.others)
            echo(
                self._help(resolved.tree, own["help"], words)
                if "help" in own
                else format_resolved_params(resolved) + passed_on
            )
            return None
        return line

    @property
    def _switches(self) -> dict[str, str]:
        return {TRUST_FLAG: TRUST_HELP} if self.runs_code else {}

    @property
    def _common_flags(self) -> dict[str, str]:
        return {**COMMON_FLAGS, **self._switches, **self.extra_flags()}

    def _is_forwarded_flag(self, flag: Flag) -> bool:
        if flag.name in self.extra_flags():
            return True
        return flag.name not in self._common_flags and self.is_forwarded(flag.name)

    def _settings(self, flags: Sequence[Flag]) -> SettingsNode:
        return settings_from_flags(
            [flag for flag in flags if not self._is_forwarded_flag(flag)], reserved=[*self._common_flags]
        )

    def _help(self, tree: ParamsBase, flag: Flag, words: Sequence[str]) -> str:
        if len(flag.words) > 1:
            raise UsageError("--help takes one word to search for")
        if flag.words:
            return format_search_results(tree, flag.words[0])
        own = "\n".join(f"  {text}" for text in self._common_flags.values())
        usage = " ".join([self.program, *(words or [self.placeholder]), "[--FLAG VALUE ...]"]).replace("  ", " ")
        return (
            f"{usage}\n\n{self.purpose}\n\n{own}\n\n"
            "Values in [brackets] are those in effect. Several words make a list. "
            f"The order of flags never matters.\n\n{format_help(tree)}"
        )

    def _complete(self, words: Sequence[str]) -> list[str]:
        try:
            before, flags = tokenize(words[:-1])
            well_formed = [flag for flag in flags if flag.words]
            tree = _apply_settings(self.tree(before), [self._settings(well_formed)]).tree
        except UsageError:
            return []
        own = [f"--{name}" for name in self._common_flags if f"--{name}".startswith(words[-1])] if words else []
        return [*own, *complete_words(tree, list(words))]


def _apply_settings(tree: Params, settings: Sequence[SettingsNode]) -> ResolvedParams:
    resolved = ResolvedParams(tree)
    for node in settings:
        resolved = apply_settings(resolved, node)
    return resolved
