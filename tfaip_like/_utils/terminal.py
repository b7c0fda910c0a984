"""What a terminal can show: its width, and colors."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import IO

DEFAULT_COLUMNS = 80
"""Width of output that is not written to a terminal."""


def terminal_columns(stream: IO[str]) -> int:
    """Return the number of columns of the terminal that shows a stream, read again after each resize.

    Args:
        stream: output stream; 80 columns if it is not a terminal.
    """
    if stream.isatty():
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):  # a stand-in without a descriptor
            columns = 0
        if columns > 0:
            return columns
    return DEFAULT_COLUMNS


@dataclass(frozen=True)
class Style:
    r"""Colors of terminal output, or plain text.

    Args:
        is_colored: whether to write colors.

    Example:
        >>> Style(is_colored=True).warning("careful"), Style(is_colored=False).warning("careful")
        ('\x1b[33mcareful\x1b[0m', 'careful')
    """

    is_colored: bool

    def error(self, text: str) -> str:
        """Return text in the color of errors."""
        return self._paint(text, "1;31")

    def warning(self, text: str) -> str:
        """Return text in the color of warnings."""
        return self._paint(text, "33")

    def best(self, text: str) -> str:
        """Return text in the color of the best value."""
        return self._paint(text, "1;32")

    def heading(self, text: str) -> str:
        """Return text in bold."""
        return self._paint(text, "1")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_colored and text else text


def terminal_style(stream: IO[str]) -> Style:
    """Return the style for a stream: colored on a terminal that shows colors, unless the user disables them.

    See https://no-color.org.

    Args:
        stream: output stream.
    """
    return Style(stream.isatty() and not os.environ.get("NO_COLOR") and _shows_colors())


def _shows_colors() -> bool:
    if sys.platform == "win32":  # the older console prints escape sequences as they are
        return bool(os.environ.get("WT_SESSION") or os.environ.get("ANSICON") or os.environ.get("TERM_PROGRAM"))
    return os.environ.get("TERM", "dumb") != "dumb"
