"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .gan import DigitGAN


def test_it_learns_and_draws(tmp_path: Path) -> None:
    result = train(DigitGAN(trainer=Trainer(epochs=5, random_seed=1, output_dir=tmp_path / "run")))
    distances = [row["val_frechet_distance"] for row in result.history]
    assert distances[-1] < distances[0]
    prediction = load_predictor(tmp_path / "run").one({"noise": np.zeros(16, np.float32)})
    assert prediction.outputs["image"].shape == (8, 8)
