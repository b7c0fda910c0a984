"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .minimal import Minimal


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    result = train(Minimal(trainer=Trainer(epochs=3, random_seed=1, output_dir=tmp_path / "run")))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    prediction = load_predictor(tmp_path / "run").one({"image": np.zeros((8, 8), np.float32)})
    assert abs(prediction.outputs["probabilities"].sum() - 1) < 1e-5
