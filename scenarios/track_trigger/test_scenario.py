"""Short training of the scenario, and its weights as fixed-point numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .draw import NUM_INPUTS
from .firmware import convert_to_fixed_point
from .scenario import Perceptron, Tracks, TrackTrigger


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    data = Tracks(expert=1, samples=5000, val_samples=500)
    trainer = Trainer(epochs=3, random_seed=1, jit_compile=False, output_dir=tmp_path / "run")
    result = train(TrackTrigger(data=data, model=Perceptron(units=[16]), trainer=trainer))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    prediction = load_predictor(tmp_path / "run").one({"hits": np.zeros(NUM_INPUTS, np.float32)})
    assert prediction.outputs["track"].shape == (2,)
    firmware = convert_to_fixed_point(tmp_path / "run/best", bits=18)
    assert [np.shape(layer["weights"]) for layer in firmware["layers"]] == [(NUM_INPUTS, 16), (16, 2)]
