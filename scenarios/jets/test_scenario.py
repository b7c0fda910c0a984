"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

from tfaip_like import load_predictor, train
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.settings import Trainer

from .data import Jets
from .draw import CLASSES, FEATURES, MISSING, draw_files
from .scenario import JetTagging


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    train_files, val_files = draw_files(tmp_path / "jets", files=2, val_files=1, jets=400)
    data = Jets(files=[str(file) for file in train_files], val_files=[str(file) for file in val_files])
    trainer = Trainer(epochs=3, random_seed=1, jit_compile=False, output_dir=tmp_path / "run")
    result = train(JetTagging(data=data, train=TrainLoaderSettings(batch_size=16), trainer=trainer))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    prediction = load_predictor(tmp_path / "run").one({"features": [MISSING] * len(FEATURES)})
    assert prediction.outputs["probabilities"].shape == (len(CLASSES),)
