"""Table sources: CSV, Parquet and NumPy files."""

from tfaip_like.data._sources.tables.categories import find_categories
from tfaip_like.data._sources.tables.files import column_names
from tfaip_like.data._sources.tables.source import Columns, ColumnSelection, IsMissing, TableSource
from tfaip_like.data._sources.tables.table_format import TableFormat

__all__ = ["ColumnSelection", "Columns", "IsMissing", "TableFormat", "TableSource", "column_names", "find_categories"]
