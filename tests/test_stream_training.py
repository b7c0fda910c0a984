"""Training on samples that are made in groups: epochs, exact resumption, settings that change."""

from __future__ import annotations

import csv
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from small import Noise, Small, small
from stopping import NumberedPoints, copy_as_killed, differences

from tfaip_like import Mode, Sample, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import Position, list_checkpoints
from tfaip_like.data import StreamProcessor
from tfaip_like.settings import Resume

MADE: list[int] = []


class Cut(StreamProcessor):
    """Makes one to three noisy samples of each."""

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            MADE.append(sample.meta["number"])
            for _ in range(1 + sample.meta["number"] % 3):
                noise = random.normal(0, 0.1, 2).astype("float32")
                yield dataclasses.replace(sample, inputs={"x": sample.inputs["x"] + noise})


class Pack(StreamProcessor):
    """Notes nothing and keeps all."""

    group = 30

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        yield from list(samples)


TOTAL = sum(1 + number % 3 for number in range(100))


def scenario(folder: Path, num_processes: int = 0, **changes: Any) -> Small:
    """Three epochs of 24 steps, saved every ten steps."""
    trainer = {"epochs": 3, "checkpoint_every": "10steps", "keep_checkpoints": 100, "steps_per_execution": 5}
    settings: dict[str, Any] = {
        "data": NumberedPoints(processors=[Noise(), Cut(group=10), Pack(), Noise(modes=(Mode.TRAIN,))]),
        "train": {"num_processes": num_processes, "shuffle_buffer": 40, **changes.pop("train", {})},
        "val": {"num_processes": num_processes},
    }
    return small(folder, **{**settings, **changes, "trainer": {**trainer, **changes.get("trainer", {})}})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(scenario(folder))
    return folder


def test_an_epoch_is_all_samples_that_come_out(uninterrupted: Path) -> None:
    last = list_checkpoints(OutputDir(uninterrupted).checkpoints)[-1]
    assert last.position == Position(3, 0)
    assert last.read().state.batching.steps_per_epoch == TOTAL // 8
    with (uninterrupted / "history.csv").open() as file:
        assert all(int(float(row["val_count"])) == TOTAL for row in csv.DictReader(file))


@pytest.mark.slow
def test_data_workers_change_no_bit(uninterrupted: Path, tmp_path: Path) -> None:
    train(scenario(tmp_path / "run", num_processes=2))
    assert differences(uninterrupted, tmp_path / "run") == []


@pytest.mark.parametrize(("step", "num_processes"), [slow(10, 2), slow(40, 0), (70, 0)])
def test_a_stream_is_resumed_with_the_same_bits(
    uninterrupted: Path, tmp_path: Path, step: int, num_processes: int
) -> None:
    copy = copy_as_killed(uninterrupted, tmp_path / "copy", Position(*divmod(step, TOTAL // 8)))
    MADE.clear()
    train(scenario(copy, num_processes), Resume())
    assert differences(uninterrupted, copy) == []
    texts = [(run / "history.csv").read_text() for run in (uninterrupted, copy)]
    assert [line.split(",")[:3] for line in texts[0].splitlines()] == [
        line.split(",")[:3] for line in texts[1].splitlines()
    ]
    if step == 70:  # the last two steps, and what is made for an example and a validation
        assert len(MADE) < 4 * 100


def test_changed_data_continue_with_the_next_pass(
    uninterrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    copy = copy_as_killed(uninterrupted, tmp_path / "copy", Position(2, 2))
    history = train(scenario(copy, train={"shuffle_buffer": 50}), Resume()).history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert "resuming at the start of the next pass" in caplog.text


def test_class_weights_of_streams_reach_the_losses() -> None:
    class Halves(NumberedPoints):
        def class_label(self, sample: Sample) -> bool:
            return float(sample.targets["y"]) > 1

    data = Halves(processors=[Cut(group=10)])
    result = train(small(data=data, train={"balance": "loss"}, trainer={"epochs": 1}))
    assert np.isfinite(result.history[-1]["loss"])


def test_cached_streams_are_trained_on() -> None:
    result = train(small(data=NumberedPoints(processors=[Cut()]), train={"cache": "memory"}, trainer={"epochs": 1}))
    assert result.history[-1]["val_count"] == TOTAL
