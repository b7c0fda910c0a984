"""Short training of the scenario, on lines drawn with the font of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfaip_like import load_predictor, train
from tfaip_like.list_files import ListTrainLoaderSettings, ListValLoaderSettings
from tfaip_like.settings import Trainer

from .draw import find_fonts, write_dataset
from .model import LineRecognition
from .scenario import Lines, TextLines


def test_it_learns_and_predicts(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    write_dataset(tmp_path, lines=48, val_lines=8, fonts=find_fonts(None, random)[:1], random=random)
    scenario = TextLines(
        data=Lines(),
        model=LineRecognition(filters=[4, 4], units=8),
        train=ListTrainLoaderSettings(lists=[str(tmp_path / "train.lst")], num_processes=0),
        val=ListValLoaderSettings(lists=[str(tmp_path / "val.lst")], num_processes=0),
        trainer=Trainer(epochs=3, random_seed=1, jit_compile=False, output_dir=tmp_path / "run"),
    )
    result = train(scenario)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    sample = scenario.data.sample(tmp_path / "lines" / "00001.png")
    assert isinstance(load_predictor(tmp_path / "run").one(sample).outputs["text"], str)
