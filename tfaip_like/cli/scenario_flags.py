"""The command line of a command that takes a scenario: its name, files, flags, help, completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tfaip_like.cli.command import print_version
from tfaip_like.cli.completion import completion_script
from tfaip_like.errors import UsageError
from tfaip_like.params.base import CLASS_KEY, Json, class_tag, with_defaults
from tfaip_like.params.docs import summary
from tfaip_like.params.flags import Flag, flag_settings, split_words
from tfaip_like.params.help import completions, help_text, search_text, show_text
from tfaip_like.params.store import read_values
from tfaip_like.params.tree import Resolved, apply, check_tree, file_settings
from tfaip_like.scenario import Scenario
from tfaip_like.scenario_lookup import find_scenario

OWN_FLAGS = {
    "help": "--help [WORD]      show the flags, or those that have to do with WORD",
    "show": "--show             print every value and where it came from, and stop",
    "params": "--params FILE ...  read parameters from JSON or YAML files; flags win",
    "version": "--version          print the version",
    "completion": "--completion SHELL print a script for bash, zsh or fish that completes flags",
}


@dataclass(frozen=True)
class ScenarioCommand:
    """A command with a scenario and flags for its parameters."""

    program: str
    purpose: str

    def scenario(self, argv: Sequence[str]) -> Scenario | None:
        """The scenario that was asked for, checked; None if only text was wanted, which is printed.

        Raises:
            UsageError: for every mistake in the command line, in a file or in the scenario's module.
        """
        words, flags = split_words(argv)
        own = {flag.name: flag for flag in flags if flag.name in OWN_FLAGS}
        if "version" in own:
            print_version(self.program)
            return None
        if "completion" in own:
            print(completion_script(self.program, own["completion"].words))
            return None
        files = {file: read_values(Path(file)) for file in own["params"].words} if "params" in own else {}
        if "params" in own and not files:
            raise UsageError("--params: name a JSON or YAML file")
        cls = self._scenario_class(words, files, wants_help="help" in own)
        resolved = _resolve(cls, files, flags)
        if "help" in own:
            print(self._help(resolved, own["help"]))
            return None
        check_tree(resolved.tree)
        if "show" in own:
            print(show_text(resolved))
            return None
        return cast(Scenario, resolved.tree)

    def complete(self, words: Sequence[str]) -> list[str]:
        """What can stand in place of the last of `words`; nothing if they make no sense."""
        try:
            cls = find_scenario(words[0]) if len(words) > 1 and not words[0].startswith("-") else Scenario
            tree = _resolve(cls, {}, _well_formed(words[1:-1])).tree
        except UsageError:
            return []
        own = [f"--{name}" for name in OWN_FLAGS if f"--{name}".startswith(words[-1])] if words else []
        return [*own, *completions(tree, list(words))]

    def _scenario_class(
        self, words: Sequence[str], files: Mapping[str, dict[str, Json]], wants_help: bool
    ) -> type[Scenario]:
        if len(words) > 1:
            raise UsageError(f"one scenario at a time, got {' '.join(words)}; flags begin with two dashes")
        if words:
            return find_scenario(words[0])
        tags = [str(values[CLASS_KEY]) for values in files.values() if CLASS_KEY in values]
        if tags:
            return find_scenario(tags[0])
        if wants_help:
            return Scenario
        raise UsageError(
            f"which scenario? {self.program} SCENARIO [--FLAG VALUE ...], with the scenario first:\n"
            "a module (scenarios.tutorial), a class in it (pkg.module:Class) or a file (my_scenario.py)"
        )

    def _help(self, resolved: Resolved, flag: Flag) -> str:
        tree = resolved.tree
        if len(flag.words) > 1:
            raise UsageError("--help takes one word to search for")
        if flag.words:
            return search_text(tree, flag.words[0])
        cls = type(tree)
        name = class_tag(cls) if cls is not Scenario else "SCENARIO"
        what = f"{cls.__name__}: {summary(cls)}" if cls is not Scenario else "With a scenario named, its own flags too."
        own = "\n".join(f"  {text}" for text in OWN_FLAGS.values())
        return (
            f"{self.program} {name} [--FLAG VALUE ...]\n\n{self.purpose}\n{what}\n\n{own}\n\n"
            "Values in [brackets] are those in effect. Several words make a list. "
            "The order of flags never matters.\n\n"
            f"{help_text(tree)}"
        )


def _resolve(cls: type[Scenario], files: Mapping[str, dict[str, Json]], flags: Sequence[Flag]) -> Resolved:
    """Defaults, then the files in their order, then the flags."""
    resolved = Resolved(with_defaults(cls))
    for file, values in files.items():
        if values.get(CLASS_KEY, class_tag(cls)) != class_tag(cls):
            raise UsageError(f"{file}: is for the scenario {values[CLASS_KEY]}, not for {class_tag(cls)}")
        resolved = apply(resolved, file_settings(values, file))
    return apply(resolved, flag_settings(flags, reserved=OWN_FLAGS))


def _well_formed(words: Sequence[str]) -> list[Flag]:
    return [flag for flag in split_words(words)[1] if flag.words]
