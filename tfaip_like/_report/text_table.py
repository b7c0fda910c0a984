"""Text tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.escaping import escape_text

GAP = "  "
MAX_CELL_LENGTH = 40
"""Maximum number of characters of a cell."""


def format_table(
    titles: Sequence[str], columns: Sequence[Sequence[str]], right: Sequence[bool], width: int | None = None
) -> str:
    """Return a text table.

    A table that is too wide is transposed; if that is too wide as well, the last columns are omitted with a note.

    Args:
        titles: Title of each column.
        columns: Cells of each column.
        right: Whether each column is right-aligned.
        width: Width of the terminal in characters; None for unlimited.
    """
    cells = [[_truncate(title), *map(_truncate, column)] for title, column in zip(titles, columns, strict=True)]
    upright = _lines(cells, right)
    if width is None or _fits(upright, width):
        return "\n".join(upright)
    transposed_cells = [list(row) for row in zip(*cells, strict=True)]
    transposed = _lines(transposed_cells, [False] + [True] * (len(transposed_cells) - 1))
    if _fits(transposed, width):
        return "\n".join(transposed)
    kept = len(cells)
    while kept > 1 and not _fits(upright, width):
        kept -= 1
        upright = _lines(cells[:kept], right)
    return "\n".join([*(line[:width] for line in upright), _omitted_columns_note(titles[kept:])])


def _omitted_columns_note(titles: Sequence[str]) -> str:
    return f"({pluralize(len(titles), 'more column')} in --csv, --html or a wider terminal: {', '.join(titles)})"


def _lines(columns: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return [
        GAP.join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=False)
        ).rstrip()
        for row in rows
    ]


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(len, lines)) <= width


def _truncate(cell: str) -> str:
    """Return a cell as a single line of limited length."""
    line = escape_text(" ".join(cell.split()))
    return line if len(line) <= MAX_CELL_LENGTH else f"{line[: MAX_CELL_LENGTH - 3]}..."
