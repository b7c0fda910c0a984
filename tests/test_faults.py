"""Campaigns that interrupt trainings: a slice of them, and that they find faults where there are some."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_server import REPOSITORY

from scripts.faults.signals import all_cells

INEXACT_RESTORE = """
import os, sys

def spoil():
    from tfaip_like._training.checkpointing.checkpoints import Checkpoint
    read = Checkpoint.read

    def inexact(self):
        content = read(self)
        if sys.argv[0] == "resume-training":
            for name, array in content.arrays.items():
                if name.startswith("network") and array.dtype == "float32":
                    array *= 1.000001
        return content

    Checkpoint.read = inexact

os.register_at_fork(after_in_child=spoil)
"""
DEAF = """
import os, signal

def ignore():
    signal.signal = lambda number, handler: signal.SIG_DFL
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

os.register_at_fork(after_in_child=ignore)
"""


def faults(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the campaigns as a person does."""
    command = [sys.executable, "scripts/faults", *map(str, words)]
    changed = {**os.environ, **environment}
    return subprocess.run(command, cwd=REPOSITORY, env=changed, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1800)
def test_a_slice_of_the_campaigns_finds_no_fault(tmp_path: Path) -> None:
    done = faults("--signals", "--files", "--slice", "--parallel", 1, "--folder", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no faults" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("how", "printed"), [(INEXACT_RESTORE, "differs in"), (DEAF, "exit code 0, expected 143")])
def test_a_campaign_finds_faults(how: str, printed: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(how)
    kind = ("TERM", "step", "Arrays", "VAE")
    cell = next(cell for cell in all_cells() if (cell.signal, cell.phase, cell.pipeline, cell.network) == kind)
    done = faults("--signals", "--cells", cell.number, "--folder", tmp_path / "runs", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert printed in done.stdout
