"""Escaping of untrusted text for terminals, shells, JSON and spreadsheets.

Names can contain codes that move the cursor, hide text or reverse it, and spreadsheets evaluate a cell that starts
with `=` as a formula.
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
"""Control characters, direction overrides, invisible separators and lone surrogates."""
_CONTROL_IN_LINES = re.compile(f"(?![\t\n])[{_NOT_PRINTABLE}]")
_FORMULA_PREFIXES = "=+-@\t\r\n"


def escape_text(text: str) -> str:
    r"""Return text as a single line, with control characters written as `\x1b`."""
    return _CONTROL.sub(_escape_match, text)


def escape_lines(text: str) -> str:
    r"""Return text with control characters except tabs and line breaks written as `\x1b`."""
    return _CONTROL_IN_LINES.sub(_escape_match, text)


def is_printable(text: str) -> bool:
    """Return whether text is a single line without control characters."""
    return _CONTROL.search(text) is None


def escape_json(text: str) -> str:
    """Return equivalent JSON with control characters in strings escaped, for printing."""
    return _CONTROL_IN_LINES.sub(lambda match: _escape_utf16(match[0]), text)


def shell_join(words: Iterable[str]) -> str:
    r"""Return words as typed in a shell, quoted if necessary.

    Control characters and bytes that are not UTF-8 are escaped with `$'...'`, which bash, zsh and most shells support.

    Example:
        >>> shell_join(["40", "a b", "line\n"])
        "40 'a b' $'line\\x0a'"
    """
    return " ".join(shlex.quote(word) if is_printable(word) else _quote_ansi_c(word) for word in words)


def _quote_ansi_c(word: str) -> str:
    def escape(character: str) -> str:
        if character in "\\'":
            return f"\\{character}"
        if is_printable(character):
            return character
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))

    return f"$'{''.join(map(escape, word))}'"


def escape_csv_cell(text: str) -> str:
    """Return text as a CSV cell that spreadsheets do not evaluate as a formula; numbers are unchanged."""
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape_csv_cell(cell: str) -> str:
    """Return the text that `escape_csv_cell` converted into a cell."""
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
    if 0xDC80 <= code <= 0xDCFF:  # byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
