"""Last lines and error messages of the output of a run."""

from __future__ import annotations

import os
from pathlib import Path

JOB_LOG_PREFIX = "job: "
"""Prefix of the messages that a job script appends to the output of its run."""
_ERROR_PREFIXES = ("train-scenario: ", "resume-training: ", JOB_LOG_PREFIX)
_MAX_ERROR_LINES = 40
"""Number of last lines that are searched for an error message."""
_MIN_TAIL_BYTES, _BYTES_PER_LINE = 4096, 200
"""Size of the part of a log that is read for its last lines."""


def read_last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log, at most `count`; none if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max(_MIN_TAIL_BYTES, _BYTES_PER_LINE * count)))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.replace("\r", "\n").splitlines()[-count:]


def last_error_message(log: Path) -> str:
    """Return the last error message in a log (`train-scenario: ...`), or else its last line."""
    lines = [line for line in read_last_lines(log, _MAX_ERROR_LINES) if line.strip()]
    errors = [line for line in lines if line.startswith(_ERROR_PREFIXES)]
    return first_line((errors or lines or [""])[-1])


def first_line(text: str) -> str:
    """Return the first line of a text, without surrounding blanks."""
    return text.split("\n")[0].strip()
