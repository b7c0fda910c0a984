"""Backends: each feature of the trainer works on each backend, or is refused before training."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from backend_features import FEATURES, Feature, format_table, split_page
from command_server import REPOSITORY
from conftest import Run

OTHER_BACKENDS = ("jax", "torch")


def skip_if_missing(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


def test_the_documentation_has_the_table_of_features() -> None:
    assert split_page()[1] == format_table(), "run `python tests/backend_features.py`"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_the_tests_of_a_feature_pass_on_each_backend(backend: str, feature: Feature) -> None:
    if backend in feature.refusals:
        pytest.skip("refused")
    skip_if_missing(backend)
    tests = [word for selection in feature.tests for word in shlex.split(selection)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "feature"),
    [(backend, feature) for feature in FEATURES for backend in feature.refusals],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_a_backend_lacks_is_refused_before_training(
    backend: str, feature: Feature, run: Run, tmp_path: Path
) -> None:
    skip_if_missing(backend)
    refusal = feature.refusals[backend]
    words = ["--device.backend", backend, "--trainer.output_dir", tmp_path / "run", *refusal.flags.split()]
    done = run("train-scenario", "scenarios.minimal", *words)
    assert done.returncode == 2, done.stderr
    assert refusal.flags.split()[0] in done.stderr
    assert refusal.message in done.stderr
    assert "epoch 1" not in done.stdout
