"""Categorical text columns: encode them as integers, find their categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.data._sources.tables.cells import CellError, Cells, ColumnError, describe_dtype
from tfaip_like.data._sources.tables.csv_cells import NA_VALUES
from tfaip_like.data._sources.tables.files import check_columns, is_text_table, open_table
from tfaip_like.data._sources.tables.table_format import TableFormat


def encode_categories(cells: Cells, categories: Sequence[str]) -> Cells:
    """Encode texts as the indices of their categories.

    Raises:
        ColumnError: if the cells are not texts.
        CellError: for a text that is not a category.
    """
    missing = cells.missing_mask()
    if missing.all():
        return Cells(np.zeros(cells.values.shape, np.int64), missing)
    if cells.values.dtype.kind not in "UO":
        raise ColumnError(f"contains {describe_dtype(cells.values.dtype)}; only text columns have categories")
    codes = {text: code for code, text in enumerate(categories)}
    indices = [codes.get(text, -1) for text in cells.values.ravel().tolist()]
    numbers = np.array(indices, np.int64).reshape(cells.values.shape)
    unknown = (numbers < 0) & ~missing
    if unknown.any():
        row = int(np.argwhere(unknown)[0][0])
        text = str(cells.values[unknown][0])
        raise CellError(row, f"{text[:40]!r} is not one of its categories ({truncate_list(categories)})")
    return Cells(numbers, missing if missing.any() else None)


def find_categories(
    files: Sequence[Path], columns: Sequence[str], table_format: TableFormat | None = None
) -> dict[str, list[str]]:
    """Return the sorted distinct texts of columns, for `TableFormat.categories`; missing values are excluded.

    Args:
        files: training tables; each is read once.
        columns: names of text columns.
        table_format: format of the files; by default detected.

    Raises:
        UsageError: if a file lacks a column, or a column does not contain texts.
    """
    table_format = table_format or TableFormat()
    as_texts = replace(table_format, categories={}, texts=[*table_format.texts, *columns])
    missing = NA_VALUES.union(table_format.na_values)
    categories: dict[str, set[str]] = {name: set() for name in columns}
    for file in files:
        with open_table(file, as_texts) as table:
            check_columns(file, table, columns)
            for rows in table.batches(columns):
                for name in columns:
                    texts = _present_texts(rows.cells[name], file, name)
                    categories[name] |= {text.strip() for text in texts} - missing if is_text_table(file) else texts
    return {name: sorted(texts) for name, texts in categories.items()}


def _present_texts(cells: Cells, file: Path, column: str) -> set[str]:
    present = cells.values[~cells.missing_mask()]
    if len(present) and present.dtype.kind not in "UO":
        raise UsageError(
            f"{file}, column {column!r}: contains {describe_dtype(present.dtype)}; only text columns have categories"
        )
    return set(present.tolist())
