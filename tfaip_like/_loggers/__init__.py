"""Training loggers for external tools."""
