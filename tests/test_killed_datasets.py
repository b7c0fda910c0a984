"""Trainings on datasets of other libraries that are killed within an epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from killed_datasets import KINDS
from stopping import differences

LIBRARIES = {
    "tf.data": "tensorflow",
    "PyDataset": "keras",
    "HDF5": "h5py",
    "Zarr": "zarr",
    "pandas": "pandas",
    "Polars": "polars",
    "Hugging Face": "datasets",
    "Grain": "grain",
    "PyTorch": "torch",
    "torchdata": "torchdata",
}


def run(kind: str, folder: Path, step: int = 0, backend: str = "tensorflow") -> subprocess.CompletedProcess[str]:
    files = folder.parent / "files"
    files.mkdir(exist_ok=True)
    words = [sys.executable, REPOSITORY / "tests" / "killed_datasets.py", kind, folder, files, str(step)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_on_a_dataset_that_was_killed_within_an_epoch_ends_with_the_same_bits(
    kind: str, tmp_path: Path
) -> None:
    for name, library in LIBRARIES.items():
        if kind.startswith(name):
            pytest.importorskip(library)
    done = run(kind, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    killed = run(kind, tmp_path / "killed", step=13)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run(kind, tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert len(json.loads((tmp_path / "killed" / "run.json").read_text())["resumed"]) == 1
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


@pytest.mark.slow
def test_a_loader_of_pytorch_trains_on_its_backend_and_ends_with_the_same_bits_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name, step in (("whole", 0), ("killed", 13), ("killed", 0)):
        done = run("PyTorch, loader", tmp_path / name, step, backend="torch")
        assert done.returncode == (-signal.SIGKILL if step else 0), done.stderr
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
