"""Layout of a batch directory, as far as its runs depend on it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_text

BATCH_INDEX = "batch.json"
"""File with the list of runs."""
RUNS_DIR = "runs"
"""Directory with the run directories."""
CODE_DIR = "code"
"""Directory with the code that runs import."""
BATCH_VARIABLE = "TFAIP_LIKE_BATCH"
"""Environment variable with the batch of a run, set by its job script."""


def run_code_dir(batch: Path, name: str) -> Path:
    """Return the code directory of a run of a batch: `code`, or the one that `run_code_name_path` names.

    Raises:
        UsageError: if that file names no code directory.
    """
    name_file = run_code_name_path(batch, name)
    folder = read_text(name_file).strip() if os.path.lexists(name_file) else CODE_DIR
    if not re.fullmatch(rf"{CODE_DIR}(_\d+)?", folder):
        raise UsageError(
            f"{name_file}: expected the name of a code directory, such as {CODE_DIR}_2, got {folder[:40]!r}"
        )
    return batch / folder


def run_code_name_path(batch: Path, name: str) -> Path:
    """Return the path of the file that names a run's own code directory; the job script reads it too."""
    return batch / "jobs" / f"{name}.code"
