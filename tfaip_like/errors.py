"""Errors for the person at the keyboard."""


class UsageError(Exception):
    """A mistake of the user: one to three lines that say what is wrong and what to do.

    The command line prints the text without a traceback and exits with code 2.
    """


def article(noun: str) -> str:
    """`noun` with its indefinite article: `an integer`, `a word`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
