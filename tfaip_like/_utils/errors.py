"""Exceptions of this package, and helpers to format messages."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection


class UsageError(ValueError):
    """Mistake of the user: one to three lines that say what is wrong and what to do.

    The command line prints the text without a traceback and exits with code 2. There it names flags
    (`--trainer.epochs`); raised by a Python function, it names arguments (`Trainer.epochs`).

    Example:
        >>> raise UsageError("Trainer.epochs: must be at least 1, got 0")
        Traceback (most recent call last):
        ...
        tfaip_like._utils.errors.UsageError: Trainer.epochs: must be at least 1, got 0
    """


class TrainingError(RuntimeError):
    """Training failure that is not a usage error, such as a non-finite loss.

    The command line prints the text without a traceback and exits with code 1.

    Example:
        >>> raise TrainingError("non-finite loss at epoch 1, step 7")
        Traceback (most recent call last):
        tfaip_like._utils.errors.TrainingError: non-finite loss at epoch 1, step 7
    """


class Interrupted(BaseException):
    """Interruption of training by a signal.

    Not an `Exception`, so `except Exception` does not catch it: Keras re-creates exceptions that pass through a layer,
    and data pipelines count them as bad samples.

    Args:
        signum: the signal, or a text that contains its name.
        forced: whether it was a second Ctrl-C, which stops training anywhere and not only between two steps.

    Example:
        >>> Interrupted(signal.SIGTERM).exit_code
        143
    """

    def __init__(self, signum: signal.Signals | str, forced: bool = False):
        super().__init__(signum, forced)
        self.signum = signum if isinstance(signum, signal.Signals) else _parse_signal(signum)
        self.forced = forced

    def __str__(self) -> str:
        return f"stopped by {self.signum.name}"

    @property
    def exit_code(self) -> int:
        """Exit code: 130 for Ctrl-C, 143 for SIGTERM, SIGUSR1 and SIGHUP."""
        return 128 + (signal.SIGINT if self.signum is signal.SIGINT else signal.SIGTERM)


def _parse_signal(text: str) -> signal.Signals:
    """Return the signal named in a text, because libraries re-create exceptions from their text."""
    matches = (signum for signum in signal.Signals if re.search(rf"\b{signum.name}\b", text))
    return next(matches, signal.SIGTERM)


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: `1 epoch`, `3 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def truncate_list(names: Collection[str], limit: int = 5) -> str:
    """Return the first names of a list: `a, b, c, d, e and 12 more`."""
    more = len(names) - limit
    return ", ".join(list(names)[:limit]) + (f" and {more} more" if more > 0 else "")


def format_bytes(nbytes: float) -> str:
    """Return a number of bytes for a message: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article: `an integer`, `a word`."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def short_error_message(error: BaseException) -> str:
    """Return the first line of an error message, or the name of its class if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
