"""Helper functions for tests of shipped scenarios."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like import Mode, Scenario
from tfaip_like._cli.lav_scenario import lav_scenario
from tfaip_like._cli.predict_scenario import predict_scenario
from tfaip_like._training.result import TrainResult
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training


def opened(scenario: Scenario, **settings: Any) -> DataLoader:
    """Return the training batches of a scenario with these settings."""
    source = scenario.data.source(Mode.TRAIN)
    return open_training(scenario.data, source, TrainLoaderSettings(num_processes=0, **settings), None, seed=7)


def assert_lav_and_predict_work(run: Path, result: TrainResult, folder: Path, *flags: object) -> dict[str, Any]:
    """LAV gives the values of the best epoch; each sample of the scenario is predicted, also by a moved export.

    Returns the predictions.
    """
    words = [str(run), *map(str, flags)]
    lav_scenario([*words, "--json", str(folder / "lav.json")])
    [values] = [found["values"] for found in json.loads((folder / "lav.json").read_text())]
    assert result.best_epoch is not None
    best = result.history[result.best_epoch - 1]
    compared = [name for name in values if f"val_{name}" in best]
    assert len(compared) >= 2
    for name in compared:
        np.testing.assert_allclose(values[name], best[f"val_{name}"], rtol=1e-4, err_msg=name)
    predict_scenario([*words, "--output", str(folder / "predicted.npz")])
    predicted = arrays_in(folder / "predicted.npz")
    with moved_export(run, folder) as moved:
        predict_scenario([str(moved), *map(str, flags), "--output", str(folder / "moved.npz")])
    of_moved = arrays_in(folder / "moved.npz")
    assert of_moved.keys() == predicted.keys()
    for name, array in predicted.items():
        np.testing.assert_array_equal(of_moved[name], array, err_msg=name)
    return predicted


@contextmanager
def moved_export(run: Path, folder: Path) -> Iterator[Path]:
    """Yield a copy of the best export of a run in another folder; the run is not there meanwhile."""
    moved = shutil.copytree(run / "best", folder / "moved" / "export")
    hidden = run.rename(folder / "hidden")
    try:
        yield moved
    finally:
        hidden.rename(run)


def arrays_in(file: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file."""
    with np.load(file) as arrays:
        return dict(arrays)
