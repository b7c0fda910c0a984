"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .vae import VAE, VariationalAutoencoder


def test_it_learns_and_encodes(tmp_path: Path) -> None:
    trainer = Trainer(epochs=4, random_seed=1, output_dir=tmp_path / "run")
    result = train(VAE(model=VariationalAutoencoder(kl_epochs=2), trainer=trainer))
    assert result.history[-1]["val_negative_elbo"] < result.history[0]["val_negative_elbo"]
    prediction = load_predictor(tmp_path / "run").one({"image": np.zeros((8, 8), np.float32)})
    assert prediction.outputs["code"].shape == (8,)
    assert (tmp_path / "run" / "best" / "additional" / "decoder" / "model.keras").is_file()


def test_the_weight_of_the_kl_term_rises_from_0_to_1(tmp_path: Path) -> None:
    model = VariationalAutoencoder(kl_epochs=2)
    history = train(VAE(model=model, trainer=Trainer(epochs=3, random_seed=1))).history
    weights = [row["val_weighted_kl"] / row["val_kl"] for row in history]
    assert weights == pytest.approx([0.5, 1, 1])
