"""Mark of a short training whose results are discarded: of `--verify`, or of a calibration of `experiments`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_VARIABLE = "TFAIP_TEMPORARY_RUN"

TEMPORARY_RUN_ENVIRONMENT: Mapping[str, str] = {_VARIABLE: "1"}
"""Environment variables that mark the trainings of a process."""


def is_temporary_run() -> bool:
    """Return whether the trainings of this process are marked."""
    return _VARIABLE in os.environ


@contextmanager
def mark_temporary_runs() -> Iterator[None]:
    """Mark the trainings within the block, and those of processes that it starts."""
    was_marked = is_temporary_run()
    os.environ.update(TEMPORARY_RUN_ENVIRONMENT)
    try:
        yield
    finally:
        if not was_marked:
            del os.environ[_VARIABLE]
