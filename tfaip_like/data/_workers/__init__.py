"""Data workers: processes and threads that run user code, with ordered results and reproducible errors."""
