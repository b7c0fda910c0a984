"""Short trainings of the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .scenario import Autoencoder, Classifier, NetworkZoo, ShapeImages, ZooModel

MODELS = [Classifier(architecture="classical", units=32), Autoencoder(architecture="classical", units=32, code=4)]


@pytest.mark.parametrize("model", MODELS, ids=["classifier", "autoencoder"])
def test_it_learns_and_predicts(model: ZooModel, tmp_path: Path) -> None:
    data = ShapeImages(samples=1000, val_samples=100)
    trainer = Trainer(epochs=3, random_seed=1, jit_compile=False, output_dir=tmp_path / "run")
    result = train(NetworkZoo(data=data, model=model, trainer=trainer))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    image = np.zeros((data.size, data.size), np.float32)
    prediction = load_predictor(tmp_path / "run").one({"image": image})
    assert all(np.isfinite(output).all() for output in prediction.outputs.values())
