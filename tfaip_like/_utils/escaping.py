"""Texts from files, made harmless: for a terminal, for a spreadsheet.

A name can hold codes that move the cursor, hide what follows or reverse it, and a cell that begins with `=` is a
formula to a spreadsheet.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_NOT_PRINTABLE = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f"
)
_CONTROL = re.compile(f"[{_NOT_PRINTABLE}]")
"""Control characters, changes of direction, invisible separators, halves of characters."""
_CONTROL_IN_LINES = re.compile(f"(?![\t\n])[{_NOT_PRINTABLE}]")
_FORMULA_PREFIXES = "=+-@\t\r\n"


def escape_text(text: str) -> str:
    """Return a text on one line in which control characters are written as `\\x1b`."""
    return _CONTROL.sub(_escape_match, text)


def escape_lines(text: str) -> str:
    """Return a text of several lines in which other control characters are written as `\\x1b`."""
    return _CONTROL_IN_LINES.sub(_escape_match, text)


def is_printable(text: str) -> bool:
    """Return whether a text fits on one line and holds no control characters."""
    return _CONTROL.search(text) is None


def escape_json(text: str) -> str:
    """Return the same JSON with control characters in its strings escaped, so that it can be printed."""
    return _CONTROL_IN_LINES.sub(lambda match: _escape_utf16(match[0]), text)


def shell_join(words: Iterable[str]) -> str:
    """Return words as they are typed in a shell, quoted where that is necessary.

    Control characters and bytes that are not UTF-8 are escaped, as bash, zsh and most other shells read them.

    Example:
        >>> shell_join(["40", "a b", "line\\n"])
        "40 'a b' $'line\\\\x0a'"
    """
    return " ".join(shlex.quote(word) if is_printable(word) else _quote_ansi_c(word) for word in words)


def _quote_ansi_c(word: str) -> str:
    def escaped(character: str) -> str:
        if character in "\\'":
            return f"\\{character}"
        if is_printable(character):
            return character
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))

    return f"$'{''.join(map(escaped, word))}'"


def escape_csv_cell(text: str) -> str:
    """Return a text as a cell of a CSV file that no spreadsheet takes for a formula; numbers stay as they are."""
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape_csv_cell(cell: str) -> str:
    """Return the text from which `escape_csv_cell` has made a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    return bool(text) and text[0] in _FORMULA_PREFIXES and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def _escape_match(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
