"""Processors that process whole batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from worker_data import AtSample, Counted, Jitter
from worker_loaders import batches_of, open_loader

from tfaip_like import Processor, Sample, UsageError
from tfaip_like.data._loader.batch_processing import first_batch_processor

calls: list[int] = []
"""Sizes of the batches that were processed in this process."""


class Scale(Processor):
    """Scales the input; fails for a sample."""

    fails_at: int = -1
    """Target of the sample."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.targets["y"] == self.fails_at:
            raise ValueError("cannot be scaled")
        return dataclasses.replace(sample, inputs={"x": sample.inputs["x"] * np.float32(0.1)})

    def process_batch(self, inputs: Any, targets: Any) -> Any:
        calls.append(len(targets["y"]))
        if (targets["y"] == self.fails_at).any():
            raise ValueError("cannot be scaled")
        return {"x": inputs["x"] * np.float32(0.1)}, targets


class OnlyProcess(Scale):
    """Redefines `process` alone."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return sample


class Differs(Scale):
    """Processes batches in another way than samples."""

    def process_batch(self, inputs: Any, targets: Any) -> Any:
        return {"x": inputs["x"] + 1}, targets


class OneByOne(Scale):
    """Processes samples only."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return super().process(sample, random)


@pytest.fixture(autouse=True)
def clear_calls() -> None:
    calls.clear()


@pytest.mark.parametrize(
    ("processors", "first"),
    [
        ([Scale(), Scale()], 0),
        ([Jitter(), Scale()], 1),
        ([Scale(), Jitter()], 2),
        ([Scale(), OnlyProcess()], 2),
        ([], 0),
    ],
)
def test_the_last_processors_that_define_it_process_batches(processors: list[Processor], first: int) -> None:
    assert first_batch_processor(processors) == first


@pytest.mark.parametrize("settings", [{}, {"cache": "memory"}, {"balance": "sample"}])
@pytest.mark.parametrize("head", [[], [Jitter()], [Jitter(), AtSample(what="drop")]])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_as_sample_by_sample(
    head: list[Processor], workers: int, settings: dict[str, Any]
) -> None:
    expected = batches_of(open_loader(Counted(processors=[*head, OneByOne(), OneByOne()]), 0, **settings), 0, 20)
    assert (
        batches_of(open_loader(Counted(processors=[*head, Scale(), Scale()]), workers, **settings), 0, 20) == expected
    )
    assert workers or 8 in calls or settings.get("cache")


def test_a_sample_that_fails_in_a_batch_is_named() -> None:
    loader = open_loader(Counted(processors=[Scale(fails_at=17)]), 0)
    with pytest.raises(ValueError, match="cannot be scaled") as raised:
        batches_of(loader, 0, 12)
    assert raised.value.__notes__ == ["This was training sample 17 of Counted."]


def test_a_sample_that_fails_in_a_batch_is_skipped() -> None:
    made = [
        open_loader(Counted(on_bad_sample="skip", processors=[Jitter(), kind(fails_at=17)]), 0)
        for kind in (Scale, OneByOne)
    ]
    bad = {(one.index, one.reason) for batch in made[0].iter_training(0, 12) for one in batch.bad}
    assert bad == {(17, "ValueError: cannot be scaled")}
    assert batches_of(made[0], 0, 12) == batches_of(made[1], 0, 12)


def test_samples_of_different_lengths_are_processed_one_by_one() -> None:
    ragged = open_loader(Counted(ragged=True, processors=[Scale()]), 0, buckets=3)
    expected = open_loader(Counted(ragged=True, processors=[OneByOne()]), 0, buckets=3)
    assert batches_of(ragged, 0, 12) == batches_of(expected, 0, 12)
    assert 8 not in calls


def test_a_difference_between_samples_and_batches_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"Differs.process_batch and `process` differ in input 'x'"):
        open_loader(Counted(processors=[Differs()]), 0)
