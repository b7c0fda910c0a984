"""Backends: each feature of the trainer works on each backend, or is refused before training."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from backend_features import FEATURES, Feature, format_table, split_page
from command_server import REPOSITORY
from conftest import Run

from tfaip_like._runs.run_files import read_history

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


QUALITY: dict[str, tuple[list[object], str, Callable[[float], bool]]] = {
    "scenarios.tutorial": (["--trainer.epochs", 10], "val_accuracy", lambda accuracy: accuracy >= 0.97),
    "scenarios.sequences": ([], "val_exact", lambda exact: exact > 0.98),
    "scenarios.text_lines": (["--trainer.epochs", 12], "val_character_error_rate", lambda rate: rate < 0.6),
}
"""Flags, metric and its limit at the best epoch, by scenario; the limits hold on TensorFlow."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", QUALITY)
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_shipped_scenarios_reach_the_quality_of_tensorflow(
    backend: str, scenario: str, run: Run, tmp_path: Path
) -> None:
    skip_if_missing(backend)
    flags, metric, is_good = QUALITY[scenario]
    words = [scenario, "--device.backend", backend, "--trainer.output_dir", tmp_path / "run", *flags]
    if scenario == "scenarios.text_lines":
        drawn = tmp_path / "drawn"
        run("python", "-m", "scenarios.text_lines.draw", drawn, "--lines", 300, "--val_lines", 40)
        words += ["--train.lists", drawn / "train.lst", "--val.lists", drawn / "val.lst"]
    done = run("train-scenario", *words, "--trainer.random_seed", 3, timeout=3500)
    assert done.returncode == 0, done.stderr
    values = [row[metric] for row in read_history(tmp_path / "run" / "history.csv")]
    assert any(is_good(value) for value in values), values
