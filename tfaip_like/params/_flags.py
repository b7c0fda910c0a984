"""Parsing of command-line flags into settings of a parameter tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import shell_join
from tfaip_like.params._apply import Setting, SettingsNode
from tfaip_like.params._values import NEGATIVE_NUMBER

_FLAG = re.compile(r"--[A-Za-z_]")


@dataclass(frozen=True)
class Flag:
    """Flag of a command line with the words that follow it."""

    name: str
    """Name without dashes."""
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"--{self.name}"


def tokenize(argv: Sequence[str]) -> tuple[list[str], list[Flag]]:
    """Split a command line into the words before the first flag, and the flags.

    A word that starts with two dashes and a letter is a flag; negative numbers are values. In `--name=value` the value
    is arbitrary.

    Raises:
        UsageError: for a duplicate flag, and for a word that starts with a single dash and is not a number.
    """
    before: list[str] = []
    flags: dict[str, list[str]] = {}
    words = before
    for word in argv:
        word = "--help" if word == "-h" else word
        if _FLAG.match(word):
            name, equals, value = word[2:].partition("=")
            if name in flags:
                raise UsageError(f"--{name}: duplicate flag (list flags take several values)")
            words = flags[name] = [value] if equals else []
            if equals:
                words = _ClosedTokenList(name)
        elif word.startswith("-") and word != "-" and not NEGATIVE_NUMBER.match(word):
            raise UsageError(_single_dash_message(word, list(flags)))
        else:
            words.append(word)
    return before, [Flag(name, tuple(values)) for name, values in flags.items()]


class _ClosedTokenList(list[str]):
    """List that rejects further words after `--name=value`."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def append(self, word: str) -> None:
        raise UsageError(f"{word!r} follows --{self.name}=..., which takes a single value; write --{self.name} A B")


def _single_dash_message(word: str, flags: list[str]) -> str:
    meant = f"--{word.lstrip('-')}"
    if not flags:
        return f"{word}: flags begin with two dashes; did you mean {meant}?"
    as_value = shell_join([f"--{flags[-1]}={word}"])
    return f"{word}: flags begin with two dashes ({meant}); to pass it as a value, write {as_value}"


def settings_from_flags(flags: Sequence[Flag]) -> SettingsNode:
    """Return the settings of flags."""
    settings = SettingsNode()
    for flag in flags:
        node = settings.at(flag.name.split("."))
        node.setting = Setting(origin="flag", where=str(flag), words=flag.words)
    return settings
