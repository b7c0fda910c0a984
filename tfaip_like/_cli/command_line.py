"""Command lines: positional arguments, flags for a parameter tree, and flags common to all commands."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from tfaip_like._cli.command import print_version
from tfaip_like._cli.completion import COMPLETE_FLAG, make_completion_script
from tfaip_like._cli.pager import echo_paged
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._user_code.trust import TRUST_FLAG, TRUST_HELP, UntrustedCodeError, allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, format_json
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.params import Params
from tfaip_like.params._apply import ResolvedParams, SettingsNode, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._files import read_param_file
from tfaip_like.params._flags import Flag, settings_from_flags, tokenize
from tfaip_like.params._help import (
    complete_words,
    format_groups,
    format_overview,
    format_resolved_params,
    format_search_results,
    group_flags,
    wrap_paragraphs,
    wrap_terms,
)
from tfaip_like.params._schema import json_schema

ParamFiles = Mapping[str, dict[str, Json]]
"""Contents of parameter files by path."""

COMMON_FLAGS = {
    "help": "--help [WORD]      show an overview, the flags of a group, all flags, or those about WORD",
    "show": "--show             print every value with its origin and exit",
    "schema": "--schema           print the JSON Schema of parameter files (for editors) and exit",
    "params": "--params FILE ...  read parameters from JSON or YAML files (paths or URLs); flags take precedence",
    "version": "--version          print the version and exit",
    "completion": "--completion SHELL print a script for bash, zsh or fish that completes flags",
}
"""Flags of every command, with their lines of the help. `Command.read` handles them."""
ALL_FLAGS = "all"
"""Value of `--help` that lists all flags."""
MAX_LISTED_FLAGS = 40
"""Number of flags up to which `--help` lists all of them."""
TERM_WIDTH = 19
"""Column of the explanations of common flags."""
HOW_TO_READ = (
    "Current values are in [brackets]. List flags take several values; flags may be given in any order. To see the "
    "flags of another choice, add it: --FLAG CHOICE --help."
)
HOW_TO_SEE_MORE = "--help GROUP lists the flags of a group, --help all those of all groups, --help WORD searches them."
_COMMON_SWITCHES = ("version", "show")
"""Common flags without a value."""
_TRUST_SWITCH = {TRUST_FLAG.removeprefix("--"): TRUST_HELP}


@dataclass(frozen=True)
class ParsedCommandLine:
    """Parsed command line, with the contents of its parameter files."""

    words: Sequence[str]
    """Positional arguments: the words before the first flag."""
    files: ParamFiles
    """Parameter files, in ascending order of precedence."""
    flags: Sequence[Flag] = ()
    """Flags that set parameters."""
    forwarded: Sequence[Flag] = ()
    """Flags that the command forwards, such as scenario parameters of all runs of a batch."""
    common: Mapping[str, Flag] = field(default_factory=dict)
    """Flags that set no parameter, by name: the common ones and those of the command."""

    @property
    def is_trusting(self) -> bool:
        """Return whether code in the named directories may run."""
        return bool(_TRUST_SWITCH.keys() & self.common)

    @property
    def flag_settings(self) -> SettingsNode:
        """Return the settings that the flags describe."""
        return settings_from_flags(self.flags)

    def resolve(self, defaults: Params) -> ResolvedParams:
        """Apply the files, then the flags, to a parameter tree.

        Raises:
            UsageError: for an unknown name or an invalid value.
        """
        resolved = ResolvedParams(defaults)
        for file, values in self.files.items():
            resolved = apply_settings(resolved, settings_from_file(values, file))
        return apply_settings(resolved, self.flag_settings)

    def apply_to(self, defaults: Params) -> Params:
        """Apply the files, then the flags, to a parameter tree, and validate it.

        Raises:
            UsageError: for an unknown name or an invalid value.
        """
        return cast(Params, validate_resolved(self.resolve(defaults)))


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Command with positional arguments and with flags for a parameter tree.

    Subclasses define the tree and how files and flags apply to it; parsing, help, completion and the common flags are
    the same for all commands.

    Args:
        program: name of the command.
        purpose: first paragraph of the help.
        placeholder: positional arguments as the help shows them: `EXPORT_DIR...`.
        is_forwarded: predicate of flag names: whether a flag is forwarded instead of setting a parameter.
        runs_code: whether the command may import code from the named directories, which `--trust_code` allows.
        extra_switches: further flags without a value, with their lines of the help.
        extra_flags: function that returns further flags with values that set no parameter, with their lines of the
            help.
    """

    program: str
    purpose: str
    placeholder: str = ""
    is_forwarded: Callable[[str], bool] = lambda name: False
    runs_code: bool = False
    extra_switches: Mapping[str, str] = field(default_factory=dict)
    extra_flags: Callable[[], Mapping[str, str]] = dict

    @abstractmethod
    def load_defaults(self, line: ParsedCommandLine, is_text_only: bool) -> Params:
        """Return the defaults of the parameters for the arguments and files of a command line.

        Args:
            line: parsed command line.
            is_text_only: whether only a text is printed (help, completion), for which arguments may be missing.

        Raises:
            UsageError: if a required argument is missing or invalid.
        """

    @abstractmethod
    def general_defaults(self) -> Params:
        """Return the parameters that do not depend on the arguments."""

    def resolve(self, line: ParsedCommandLine, defaults: Params) -> ResolvedParams:
        """Apply files and flags to the defaults.

        Raises:
            UsageError: for an unknown name or an invalid value.
        """
        return line.resolve(defaults)

    def read_files(self, words: Sequence[str], paths: Sequence[str]) -> ParamFiles:
        """Read the parameter files of a command line.

        Args:
            words: positional arguments.
            paths: values of `--params`.

        Raises:
            UsageError: if a file cannot be read.
        """
        return {path: read_param_file(to_path(path)) for path in paths}

    def describe(self, tree: Params) -> tuple[str, Sequence[str]]:
        """Return the introduction of the help and the groups of flags that it leaves out."""
        return self.purpose, ()

    def overview(self, tree: Params) -> tuple[Collection[str], Collection[str]]:
        """Return the groups of flags that --help lists, and the common flags of other groups.

        Args:
            tree: parameter tree.
        """
        return (), ()

    def read(self, argv: Sequence[str]) -> ParsedCommandLine | None:
        """Parse a command line.

        Returns:
            The parsed command line; None if it only asks for a text (help, values, version, completion), which has
            been printed.

        Raises:
            UsageError: for every mistake in the command line or in a file.
        """
        if argv and argv[0] == COMPLETE_FLAG:
            echo("\n".join(self._complete(argv[1:])))
            return None
        words, flags = tokenize(argv)
        common = self._common_flags(flags)
        if "version" in common:
            print_version(self.program)
            return None
        if "completion" in common:
            echo(make_completion_script(self.program, common["completion"].words))
            return None
        line = self._parse(words, flags, common)
        with allow_untrusted_code(line.is_trusting):
            if "help" in common:
                echo_paged(self._format_help(line))
            elif "show" in common:
                echo(self._format_values(line))
            elif "schema" in common:
                echo(self._format_schema(line))
            else:
                return line
        return None

    @property
    def _own_flags(self) -> dict[str, str]:
        """Return the flags that set no parameter, with their lines of the help."""
        return {**COMMON_FLAGS, **self._switches, **self.extra_flags()}

    @property
    def _switches(self) -> dict[str, str]:
        return {**(_TRUST_SWITCH if self.runs_code else {}), **self.extra_switches}

    def _common_flags(self, flags: Sequence[Flag]) -> dict[str, Flag]:
        common = {flag.name: flag for flag in flags if flag.name in self._own_flags}
        for name in (*_COMMON_SWITCHES, *self._switches):
            if name in common and common[name].words:
                raise UsageError(f"--{name} takes no value, got {' '.join(common[name].words)}")
        return common

    def _parse(self, words: Sequence[str], flags: Sequence[Flag], common: Mapping[str, Flag]) -> ParsedCommandLine:
        paths = common["params"].words if "params" in common else ()
        if "params" in common and not paths:
            raise UsageError("--params: expected a JSON or YAML file")
        others = [flag for flag in flags if flag.name not in common]
        return ParsedCommandLine(
            words,
            self.read_files(words, paths),
            [flag for flag in others if not self.is_forwarded(flag.name)],
            [flag for flag in others if self.is_forwarded(flag.name)],
            common,
        )

    def _format_values(self, line: ParsedCommandLine) -> str:
        """Return every value and its origin: what `--show` prints."""
        resolved = self.resolve(line, self.load_defaults(line, is_text_only=False))
        validate_resolved(resolved)
        forwarded = [f"{flag} {' '.join(flag.words)}  # forwarded" for flag in line.forwarded]
        return "\n".join([format_resolved_params(resolved), *forwarded])

    def _format_schema(self, line: ParsedCommandLine) -> str:
        """Return the JSON Schema of parameter files: what `--schema` prints."""
        if line.common["schema"].words:
            raise UsageError(f"--schema takes no value, got {' '.join(line.common['schema'].words)}")
        return format_json(json_schema(self.load_defaults(line, is_text_only=False)), indent=1)

    def _format_help(self, line: ParsedCommandLine) -> str:
        search_words = line.common["help"].words
        if len(search_words) > 1:
            raise UsageError("--help takes one word to search for")
        try:
            defaults = self.load_defaults(line, is_text_only=True)
        except (UntrustedCodeError, NoSuchModuleError) as error:
            tree = self.general_defaults()
            note = f"\n\nThe flags of its scenario are not shown. {error}"
        else:
            tree, note = cast(Params, self.resolve(line, defaults).tree), ""
        introduction, hidden_groups = self.describe(tree)
        groups = group_flags(tree, exclude=hidden_groups)
        topic = search_words[0] if search_words else ""
        if topic in groups and topic:
            return groups[topic].format() + note
        if topic and topic != ALL_FLAGS:
            return format_search_results(tree, topic) + note
        words = map(shlex.quote, line.words) if line.words else filter(None, [self.placeholder])
        shows_all = topic == ALL_FLAGS or sum(len(group.leaves) for group in groups.values()) <= MAX_LISTED_FLAGS
        flags = format_groups(groups.values()) if shows_all else format_overview(groups, *self.overview(tree))
        parts = [
            " ".join([self.program, *words, "[--FLAG VALUE ...]"]),
            wrap_paragraphs(introduction),
            wrap_paragraphs(HOW_TO_READ),
            flags,
            wrap_terms(self._own_flags.values(), TERM_WIDTH),
            *([] if shows_all else [wrap_paragraphs(HOW_TO_SEE_MORE)]),
        ]
        return "\n\n".join(filter(None, parts)) + note

    def _complete(self, words: Sequence[str]) -> list[str]:
        """Return the candidates for the last of `words`; none if those before it are invalid."""
        try:
            before, flags = tokenize(words[:-1])
            flags = [flag for flag in flags if flag.words]
            line = self._parse(before, flags, self._common_flags(flags))
            tree = cast(Params, self.resolve(line, self.load_defaults(line, is_text_only=True)).tree)
        except UsageError:
            return []
        if words[-2:-1] == ["--help"]:
            return [topic for topic in (ALL_FLAGS, *group_flags(tree)) if topic and topic.startswith(words[-1])]
        own_flags = [f"--{name}" for name in self._own_flags if words and f"--{name}".startswith(words[-1])]
        return [*own_flags, *complete_words(tree, list(words))]


@dataclass(frozen=True, kw_only=True)
class ParamsCommand(Command):
    """Command with a separate parameter tree.

    Args:
        tree: function that returns the default parameters for positional arguments, of which there may be none.

    """

    tree: Callable[[Sequence[str]], Params]

    def load_defaults(self, line: ParsedCommandLine, is_text_only: bool) -> Params:
        return self.tree(line.words)

    def general_defaults(self) -> Params:
        return self.tree(())
