"""The trainer on JAX and PyTorch: the tests of its numbers and of resuming hold on each backend."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from command_server import REPOSITORY

FILES = (
    "test_optimizers",
    "test_resume",
    "test_steps",
    "test_stream_training",
    "test_training",
    "test_validation",
    "test_validation_within_epochs",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_tests_of_the_trainer_pass_on_each_backend(backend: str, file: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"tests/{file}.py"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
