"""Short training of the scenario."""

from __future__ import annotations

from pathlib import Path

from tfaip_like import load_predictor, train
from tfaip_like.settings import Trainer

from .sequences import ANSWER_LENGTH, Dates, Sequences, Translator, encode


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    data = Dates(samples=2000, val_samples=100)
    trainer = Trainer(epochs=2, random_seed=1, jit_compile=False, output_dir=tmp_path / "run")
    result = train(Sequences(data=data, model=Translator(units=16), trainer=trainer))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    [text] = encode(["3 march 1998"], data.longest)
    prediction = load_predictor(tmp_path / "run").one({"text": text})
    assert prediction.outputs["answer"].shape == (ANSWER_LENGTH,)
