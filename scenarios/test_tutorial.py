"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .tutorial import CNN, Classifier, Images, Shift, Tutorial


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    trainer = Trainer(epochs=3, random_seed=1, jit_compile=False, output_dir=tmp_path / "run")
    model = Classifier(graph=CNN(filters=[8], units=32))
    result = train(Tutorial(data=Images(processors=[Shift()]), model=model, trainer=trainer))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    prediction = load_predictor(tmp_path / "run").one({"image": np.zeros((8, 8), np.float32)})
    assert prediction.outputs["class"] == prediction.outputs["probabilities"].argmax()
