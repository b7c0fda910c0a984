"""Short training of the scenario: `pytest template`."""

from __future__ import annotations

from pathlib import Path

from template.scenario import Template

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    result = train(Template(trainer=Trainer(epochs=3, random_seed=1, output_dir=tmp_path / "run")))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    answer = load_predictor(tmp_path / "run").one({"point": [0.5, 0.5]})
    assert abs(answer.outputs["probabilities"].sum() - 1) < 1e-5
