"""`TableSource`: data source of table files."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.temp_dirs import process_temp_dir
from tfaip_like.data._sources.row_locations import LocatedArraySource, RowLocations
from tfaip_like.data._sources.tables.cells import Array, CellError, Cells, ColumnError
from tfaip_like.data._sources.tables.columns import (
    Columns,
    ColumnSelection,
    build_array,
    describe_columns,
    selected_columns,
    validate_format,
)
from tfaip_like.data._sources.tables.files import check_columns, is_text_table, open_table
from tfaip_like.data._sources.tables.stored import StoredColumn
from tfaip_like.data._sources.tables.table_format import TableFormat

logger = logging.getLogger(__name__)


class TableSource(LocatedArraySource):
    r"""Data source of the rows of table files: .npz, .npy, .csv, .tsv or .parquet.

    The files are copied one after another into memory-mapped arrays in a temporary directory (in TMPDIR), so that
    only a part of one file is in memory and rows can be read in any order. The copy is deleted with the source.

    A missing value (an empty cell, NA, a null) becomes NaN, which converts columns of integers or booleans to float64;
    `TableFormat.missing` replaces it by another value, and `IsMissing` selects the mask of missing values. Texts become
    integers by `TableFormat.categories`. A number that the dtype of its column cannot represent exactly is an error,
    and so is a cell that is not unambiguously a number.

    Args:
        files: table files; their rows are concatenated in this order.
        inputs: columns of each input, see `Columns`; the columns of an .npz file are its keys.
        targets: columns of each target; None for no targets.
        table_format: format of the files; by default detected.

    Raises:
        UsageError: if a column is missing or cannot be read, or the files do not match; names the file, line and
            column.

    Example:
        >>> from tfaip_like.data import IsMissing
        >>> _ = Path("insects.csv").write_text("width,height,color,species\n2.5,,red,ant\n3,1,blue,bee\n")
        >>> source = TableSource(
        ...     [Path("insects.csv")],
        ...     inputs={"x": ["width", "height"], "color": "color", "is_missing": IsMissing(["width", "height"])},
        ...     targets={"species": "species"},
        ...     table_format=TableFormat(
        ...         categories={"color": ["red", "blue"], "species": ["ant", "bee"]}, missing={"height": 0}
        ...     ),
        ... )
        >>> source.inputs["x"].tolist(), source.targets["species"].tolist()
        ([[2.5, 0.0], [3.0, 1.0]], [0, 1])
    """

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Columns,
        targets: Columns | None = None,
        table_format: TableFormat | None = None,
    ):
        if not files:
            raise UsageError("TableSource: files is empty")
        columns = {f"inputs-{name}": which for name, which in inputs.items()}
        columns |= {f"targets-{name}": which for name, which in (targets or {}).items()}
        if not columns or not all(map(selected_columns, columns.values())):
            raise UsageError("TableSource: every input and target needs at least one column")
        temp_dir = Path(tempfile.mkdtemp(dir=process_temp_dir()))
        self._remove = weakref.finalize(self, shutil.rmtree, str(temp_dir), True)
        with _TableCopier(files, columns, validate_format(table_format or TableFormat()), temp_dir) as copier:
            arrays = copier.arrays()
            locations = copier.locations()
        logger.info(
            "read %s from %s", pluralize(len(next(iter(arrays.values()))), "row"), pluralize(len(files), "file")
        )
        super().__init__(
            {name: arrays[f"inputs-{name}"] for name in inputs},
            {name: arrays[f"targets-{name}"] for name in targets or {}},
            locations,
        )


class _TableCopier:
    """Copier of table columns into one temporary file per array."""

    def __init__(self, files: Sequence[Path], columns: Columns, table_format: TableFormat, temp_dir: Path):
        self._files = files
        self._columns = columns
        self._format = table_format
        self._begins: list[int] = []
        """Index of the first row of each file."""
        self._count = 0
        """Number of rows copied so far."""
        self._stored = {name: StoredColumn(temp_dir / str(number)) for number, name in enumerate(columns)}
        self._lines = StoredColumn(temp_dir / "lines") if all(map(is_text_table, files)) else None
        """Line number of each row; None unless all files are text tables."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for column in (*self._stored.values(), *([self._lines] if self._lines else [])):
            column.close()

    def arrays(self) -> dict[str, Array]:
        """Copy all files; return the memory-mapped arrays."""
        for file in self._files:
            self._begins.append(self._count)
            self._copy(file)
        if all(map(is_text_table, self._files)):
            for column in self._stored.values():
                column.narrow_to_integers()
        return {name: column.array() for name, column in self._stored.items()}

    def locations(self) -> RowLocations:
        """Return file and line of each row."""
        return RowLocations(list(map(str, self._files)), self._begins, self._lines.array() if self._lines else None)

    def _copy(self, file: Path) -> None:
        """Append the rows of one file."""
        columns = list(dict.fromkeys(name for which in self._columns.values() for name in selected_columns(which)))
        with open_table(file, self._format) as table:
            check_columns(file, table, columns)
            if file is self._files[0] and (unknown := self._format.described_columns() - set(table.names)):
                logger.warning("%s: table_format names unknown columns: %s", file, truncate_list(sorted(unknown)))
            for rows in table.batches(columns):
                if self._lines is not None and rows.lines is not None:
                    self._lines.append(rows.lines)
                for name, which in self._columns.items():
                    self._append(file, self._stored[name], rows.cells, which)
                self._count = max((column.count for column in self._stored.values()), default=0)

    def _append(self, file: Path, column: StoredColumn, cells: Mapping[str, Cells], which: ColumnSelection) -> None:
        try:
            column.append(build_array(cells, which, self._format))
        except CellError as error:
            # The value that does not fit may be in an earlier row, whose index is global.
            place = self.locations()(error.index if error.is_global_index else self._count + error.index)
            raise UsageError(f"{place}, {describe_columns(error, which)}: {error.reason}") from None
        except ColumnError as error:
            raise UsageError(f"{file}, {describe_columns(error, which)}: {error}") from None
