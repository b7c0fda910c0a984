"""The shipped scenarios do what they promise."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from shipped import moved_export

from scenarios.tutorial import Images, Shift
from tfaip_like import Mode, Sample
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training

COMMAND = str(Path(sys.executable).parent / "train-scenario")


def best(folder: Path, name: str) -> float:
    with (folder / "history.csv").open() as file:
        return max(float(row[name]) for row in csv.DictReader(file))


@pytest.mark.slow
def test_the_tutorial_reaches_97_percent_in_10_epochs(quick_run: Run, tmp_path: Path) -> None:
    words = ["--trainer.output_dir", tmp_path / "run", "--trainer.epochs", 10, "--trainer.random_seed", 1]
    done = quick_run(COMMAND, "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    assert best(tmp_path / "run", "val_accuracy") >= 0.97
    assert best(tmp_path / "run", "val_worst_class_recall") >= 0.8
    assert_moved_export_predicts(tmp_path / "run", quick_run, tmp_path)


@pytest.mark.slow
def test_a_moved_export_of_the_minimal_scenario_predicts(quick_run: Run, tmp_path: Path) -> None:
    words = ["--trainer.output_dir", tmp_path / "run", "--trainer.epochs", 1]
    done = quick_run(COMMAND, "scenarios.minimal", *words)
    assert done.returncode == 0, done.stderr
    assert_moved_export_predicts(tmp_path / "run", quick_run, tmp_path)


def assert_moved_export_predicts(run: Path, quick_run: Run, folder: Path) -> None:
    """Move the best export: it answers as before when the run is gone, from any directory."""
    (folder / "image.jsonl").write_text(json.dumps({"image": [[5] * 8] * 8}))
    flags = ["--predict.files", folder / "image.jsonl"]
    expected = quick_run("predict-scenario", run, *flags)
    assert expected.stdout, expected.stderr
    (folder / "empty").mkdir()
    with moved_export(run, folder) as moved:
        done = quick_run("predict-scenario", moved, *flags, cwd=folder / "empty")
    assert done.stdout == expected.stdout, done.stderr


FLAGS = [
    ["--model.graph", "CNN"],
    ["--model.graph.filters", "16", "32"],
    ["--optimizer", "Adamax"],
    ["--optimizer.weight_decay", "1e-4"],
    ["--learning_rate", "CosineDecay"],
    ["--learning_rate.lr", "0.003"],
]


def test_flags_of_the_tutorial_mean_the_same_in_any_order(quick_run: Run) -> None:
    orders = [[word for flag in order for word in flag] for order in (FLAGS, FLAGS[::-1])]
    shown = [quick_run(COMMAND, "scenarios.tutorial", *words, "--show").stdout for words in orders]
    assert shown[0] == shown[1]
    for flag in FLAGS:
        assert " ".join(flag).replace("1e-4", "0.0001") in shown[0]


@pytest.mark.slow
@pytest.mark.parametrize("order", [FLAGS[::-1], FLAGS])
def test_the_tutorial_trains_with_flags_in_any_order(order: list[list[str]], quick_run: Run, tmp_path: Path) -> None:
    words = [word for flag in order for word in flag]
    words += ["--trainer.output_dir", str(tmp_path / "run"), "--trainer.epochs", "3"]
    done = quick_run(COMMAND, "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    assert best(tmp_path / "run", "val_accuracy") >= 0.8


@pytest.mark.slow
def test_the_tutorial_trains_on_jax(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    words = ["--device.backend", "jax", "--trainer.output_dir", tmp_path / "run", "--trainer.epochs", 4]
    words += ["--trainer.calc_ema", 0.9]
    done = run(COMMAND, "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    assert best(tmp_path / "run", "val_accuracy") >= 0.93
    assert (tmp_path / "run" / "best" / "serve" / "saved_model.pb").exists()


@pytest.mark.slow
def test_the_tutorial_trains_on_torch(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ["--device.backend", "torch", "--trainer.output_dir", tmp_path / "run", "--trainer.epochs", 4]
    done = run(COMMAND, "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    assert best(tmp_path / "run", "val_accuracy") >= 0.93
    assert (tmp_path / "run" / "best" / "serve" / "saved_model.pb").exists()


def test_augmentation_moves_images_in_training_only() -> None:
    image = np.arange(64, dtype="float32").reshape(8, 8)
    moved = [Shift(pixels=1).process(Sample({"image": image}), np.random.default_rng(seed)) for seed in range(20)]
    assert {sample.inputs["image"].shape for sample in moved} == {(8, 8)}
    centers = {float(sample.inputs["image"][4, 4]) for sample in moved}
    assert centers <= {image[y, x] for y in (3, 4, 5) for x in (3, 4, 5)}
    assert len(centers) > 3
    data = Images(processors=[Shift()])
    batches = open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(), None, seed=1)
    assert batches.samples.processors == [Shift()]
    assert Mode.EVALUATE not in Shift.modes


def test_the_scenarios_are_short() -> None:
    def lines(name: str) -> int:
        return len((REPOSITORY / "scenarios" / name).read_text().splitlines())

    assert lines("minimal.py") <= 60
    assert lines("tutorial.py") <= 175
