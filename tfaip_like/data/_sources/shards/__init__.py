"""Data sources of shards, read in place: WebDataset, Parquet and ArrayRecord files."""
