"""Names in the directory of a batch that its runs need to know too."""

from __future__ import annotations

import re
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_text

BATCH_INDEX = "batch.json"
"""The list of its runs."""
RUNS_DIR = "runs"
"""Their output directories."""
CODE_DIR = "code"
"""The code that they import."""


def run_code_dir(batch: Path, name: str) -> Path:
    """Return the folder with the code of a run of a batch: that of all its runs, or another one that a file names."""
    other = run_code_name_path(batch, name)
    folder = read_text(other).strip() if other.exists() else CODE_DIR
    if not re.fullmatch(rf"{CODE_DIR}(_\d+)?", folder):
        raise UsageError(
            f"{other}: expected the folder of the code of this run, such as {CODE_DIR}_2, got {folder[:40]!r}"
        )
    return batch / folder


def run_code_name_path(batch: Path, name: str) -> Path:
    """Return the file that names the code of a run, where it is not that of all runs; the job script reads it."""
    return batch / "jobs" / f"{name}.code"
