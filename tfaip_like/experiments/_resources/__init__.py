"""Time, memory and disk space that runs need."""
