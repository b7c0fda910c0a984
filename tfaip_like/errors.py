"""Errors for the person at the keyboard."""

from __future__ import annotations

import signal
from collections.abc import Collection


class UsageError(Exception):
    """A mistake of the user: one to three lines that say what is wrong and what to do.

    The command line prints the text without a traceback and exits with code 2.
    """


class TrainingError(Exception):
    """A training that cannot go on, though nobody mistyped: the loss became NaN, say.

    The command line prints the text without a traceback and exits with code 1.
    """


class Interrupted(Exception):  # noqa: N818  (no error)
    """A training that was told to stop by a signal, and stopped between two steps.

    Attributes:
        number: the signal.
        at_once: whether it was asked a second time, and so stopped just anywhere.
    """

    def __init__(self, number: signal.Signals, at_once: bool = False):
        super().__init__(f"stopped by {number.name}")
        self.number = number
        self.at_once = at_once

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for all that ask a program to end (SIGTERM, SIGUSR1, SIGHUP)."""
        return 128 + (signal.SIGINT if self.number is signal.SIGINT else signal.SIGTERM)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 epoch`, `3 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(names: Collection[str], shown: int = 5) -> str:
    """The first of many names: `a, b, c, d, e and 12 more`."""
    more = len(names) - shown
    return ", ".join(list(names)[:shown]) + (f" and {more} more" if more > 0 else "")


def article(noun: str) -> str:
    """`noun` with its indefinite article: `an integer`, `a word`."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for a line of ours; its class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
