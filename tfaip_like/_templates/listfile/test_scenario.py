"""Short training of the scenario: `pytest template`."""

from __future__ import annotations

from pathlib import Path

from template.scenario import SAMPLES, Template

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    scenario = Template(trainer=Trainer(epochs=3, random_seed=1, output_dir=tmp_path / "run"))
    result = train(scenario)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    sample = scenario.data.sample(SAMPLES / "wild" / "001.npy")
    answer = load_predictor(tmp_path / "run").one(sample)
    assert abs(answer.outputs["probabilities"].sum() - 1) < 1e-5
