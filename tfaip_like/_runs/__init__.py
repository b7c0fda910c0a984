"""Run directories: layout, locking, recorded files, and their reader."""
