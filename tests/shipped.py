"""What tests of shipped scenarios do with their runs, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like import Mode, Scenario
from tfaip_like.cli.lav_scenario import lav_scenario
from tfaip_like.cli.predict_scenario import predict_scenario
from tfaip_like.data import TrainData
from tfaip_like.data.pipeline import Batches, open_training
from tfaip_like.train.result import TrainResult


def opened(scenario: Scenario, **settings: Any) -> Batches:
    """The training batches of a scenario with these settings."""
    source = scenario.data.source(Mode.TRAIN)
    return open_training(scenario.data, source, TrainData(num_processes=0, **settings), None, seed=7)


def assert_lav_and_predict_work(run: Path, result: TrainResult, folder: Path, *flags: object) -> dict[str, Any]:
    """LAV gives the values of the best epoch; each sample of the scenario is predicted. Returns the predictions."""
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
    with np.load(folder / "predicted.npz") as predicted:
        return dict(predicted)
