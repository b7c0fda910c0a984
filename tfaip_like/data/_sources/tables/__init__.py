"""Table sources: CSV, Parquet and NumPy files."""
