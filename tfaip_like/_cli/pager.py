"""Paging of long texts in a terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress

from tfaip_like._utils.console import echo
from tfaip_like._utils.escaping import escape_lines

LESS_OPTIONS = "-R -F -X"
"""Show colors, exit if the text fits on the screen, and leave it there."""


def echo_paged(text: str) -> None:
    """Print text to standard output, in a terminal through the pager of the user ($PAGER, otherwise less).

    Args:
        text: text to print; control characters are escaped.
    """
    pager = _find_pager() if sys.stdout.isatty() and sys.stdin.isatty() else []
    if not pager or not _run_pager(pager, escape_lines(text) + "\n"):
        echo(text)


def _find_pager() -> list[str]:
    """Return the command of the pager; an empty list if there is none, or if the user wants none."""
    if "PAGER" not in os.environ:
        less = shutil.which("less")
        return [less] if less else []
    try:
        return [word for word in shlex.split(os.environ["PAGER"]) if word != "cat"]
    except ValueError:  # an unclosed quote
        return []


def _run_pager(command: list[str], text: str) -> bool:
    """Show text in a pager until the user leaves it; return whether the pager could be started."""
    environment = {"LESS": LESS_OPTIONS, **os.environ}
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8", errors="replace", env=environment)
    except OSError:
        return False
    remaining: str | None = text
    while pager.returncode is None:
        with suppress(KeyboardInterrupt):  # Ctrl-C is for the pager, and less stays open
            pager.communicate(remaining)
        remaining = None
    return True
