"""Search for a learning rate (`--learning_rate.find`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, slow
from small import Line, small

from tfaip_like import Tensors, UsageError, train
from tfaip_like._report.run_page import render_report
from tfaip_like._runs.reader import read_run
from tfaip_like._training.learning_rate_search import MAX_RATE, MIN_RATE, NUM_STEPS, RangeTest
from tfaip_like.optimizers import SGD, Adam, Optimizer
from tfaip_like.schedules import Constant, CosineDecay, ReduceOnPlateau, Schedule

RATES = np.geomspace(MIN_RATE, MAX_RATE, NUM_STEPS)


def test_the_proposed_rate_is_where_the_loss_falls_fastest() -> None:
    losses = 2 - 1 / (1 + (0.01 / RATES) ** 2)  # falls most at 0.01, per power of ten
    assert RangeTest(RATES, losses).propose() == pytest.approx(0.01, rel=0.2)


def test_what_follows_the_smallest_loss_is_not_used() -> None:
    losses = np.where(RATES < 0.1, 2 - RATES, 100.0)
    losses[-1] = 50  # falls again after it has diverged
    assert RangeTest(RATES, losses).propose() < 0.1


@pytest.mark.parametrize("losses", [np.ones(NUM_STEPS), np.linspace(1, 3, NUM_STEPS), np.array([1.0]), []])
def test_no_rate_is_proposed_if_the_loss_does_not_fall(losses: np.ndarray) -> None:
    assert RangeTest(RATES, losses).propose() is None


@pytest.mark.parametrize(
    ("schedule", "optimizer", "trainer"),
    [
        (Constant(find=True), SGD(), {}),
        slow(CosineDecay(find=True, warmup_epochs=1), Adam(weight_decay=0.01), {"accumulate_steps": 2}),
        slow(ReduceOnPlateau(find=True), Adam(), {"calc_ema": 0.9, "precision": "mixed_bfloat16"}),
    ],
    ids=["constant", "cosine", "plateau"],
)
def test_the_training_is_that_of_a_run_with_the_rate(
    schedule: Schedule, optimizer: Optimizer, trainer: dict[str, object], tmp_path: Path
) -> None:
    settings = {"epochs": 2, **trainer}
    found = train(small(tmp_path / "found", learning_rate=schedule, optimizer=optimizer, trainer=settings))
    run = read_run(tmp_path / "found")
    rate = float(run.parameters["learning_rate.lr"])
    assert rate == pytest.approx(RangeTest(**run.info["learning_rate_test"]).propose(), rel=0.05)
    assert MIN_RATE < rate < MAX_RATE
    assert f"used: {rate:g}" in render_report(run)

    same = dataclasses.replace(schedule, find=False, lr=rate)
    expected = train(small(tmp_path / "given", learning_rate=same, optimizer=optimizer, trainer=settings))
    for one, other in zip(found.network.get_weights(), expected.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Unlearnable(Line):
    """Losses that do not depend on the outputs."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"constant": 1 + 0 * outputs["sum"]}


def test_a_search_without_a_result_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"Constant.find: the loss does not fall at any learning rate"):
        train(small(model=Unlearnable(), learning_rate=Constant(find=True)))


@pytest.mark.slow
def test_a_resumed_run_keeps_the_rate(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["scenarios.minimal", "--trainer.epochs", 1, "--learning_rate.find", "--trainer.output_dir", folder]
    assert run("train-scenario", *words).returncode == 0
    rate = read_run(folder).parameters["learning_rate.lr"]
    resumed = run("resume-training", folder, "--trainer.epochs", 2)
    assert resumed.returncode == 0, resumed.stderr
    assert "Searching the learning rate" not in resumed.stderr + resumed.stdout
    assert read_run(folder).parameters["learning_rate.lr"] == rate
    assert "learning_rate_test" in read_run(folder).info


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("scenarios.minimal", "--learning_rate.lr", "0.1"), "--learning_rate.lr 0.1 has no effect"),
        (("scenarios.gan",), "--learning_rate.find true: is for a single optimizer"),
    ],
)
def test_flags_that_contradict_a_search_are_errors(words: tuple[str, ...], message: str, quick_run: Run) -> None:
    done = quick_run("train-scenario", *words, "--learning_rate.find")
    assert done.returncode == 2
    assert message in done.stderr
