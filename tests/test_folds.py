"""Cross-validation: trainings on parts of the samples, whose exports vote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import Points, small

from tfaip_like import ArraySource, Mode, Sample, UsageError, load_predictor, train
from tfaip_like.data import Mixture
from tfaip_like.data._sources.folds import cross_validation_split


def numbered(count: int, begin: int = 0) -> list[Sample]:
    return [Sample(inputs={"x": np.array([i, 0])}) for i in range(begin, begin + count)]


def numbers(source: object) -> list[int]:
    return [int(sample.inputs["x"][0]) for sample in source]  # type: ignore[attr-defined]


@given(st.integers(2, 8), st.integers(8, 60), st.booleans())
def test_each_sample_is_held_out_in_just_one_fold(folds: int, count: int, as_arrays: bool) -> None:
    samples = numbered(count)
    source = ArraySource({"x": np.array([sample.inputs["x"] for sample in samples])}) if as_arrays else samples
    held_out = [numbers(cross_validation_split(source, folds, fold, held_out=True)) for fold in range(1, folds + 1)]
    assert sorted(number for kept in held_out for number in kept) == list(range(count))
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for fold, kept in enumerate(held_out, 1):
        assert sorted(kept + numbers(cross_validation_split(source, folds, fold, held_out=False))) == list(range(count))


def test_training_keeps_the_ratios_of_lists_and_validation_takes_each_sample_once() -> None:
    mixture = Mixture([numbered(10), numbered(30, 10)], [1, 1])
    rest, part = (cross_validation_split(mixture, 4, 1, held_out=held_out) for held_out in (False, True))
    weights = rest.sampling_weights  # type: ignore[attr-defined]
    assert mixture.sampling_weights is not None
    assert weights.tolist() == [mixture.sampling_weights[number] for number in numbers(rest)]
    assert part.sampling_weights is None  # type: ignore[attr-defined]
    assert part.describe(0) == mixture.describe(numbers(part)[0])  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_exports_of_all_folds_vote(tmp_path: Path) -> None:
    folders = [tmp_path / f"fold_{fold}" for fold in (1, 2, 3)]
    for fold, folder in enumerate(folders, 1):
        scenario = small(folder, train={"folds": 3, "fold": fold}, trainer={"epochs": 1, "lav_every_n": 1})
        (row,) = train(scenario).history
        assert row["val_count"] == row["lav_count"] == len(scenario.select_source(Mode.EVALUATE) or ()) in (33, 34)  # type: ignore[arg-type]
    found = load_predictor(*folders).one({"x": [1, 2]})
    alone = [float(load_predictor(folder).one({"x": [1, 2]}).outputs["sum"]) for folder in folders]
    assert float(found.outputs["sum"]) == pytest.approx(np.mean(alone), rel=1e-6)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"folds": 1}, "TrainLoaderSettings.folds 1: must be 0 .disabled. or at least 2"),
        ({"folds": 3, "fold": 4}, "TrainLoaderSettings.fold 4: must be from 1 to 3"),
        ({"folds": 200}, "TrainLoaderSettings.folds 200 exceeds the number of samples"),
    ],
)
def test_impossible_folds_are_reported(group: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(small(train=group))


def test_samples_without_an_index_cannot_be_divided() -> None:
    class Stream(Points):
        def source(self, mode: Mode) -> object:  # type: ignore[override]
            return (sample for sample in numbered(10))

    with pytest.raises(UsageError, match="TrainLoaderSettings.folds 2 requires a random-access source"):
        train(small(data=Stream(), train={"folds": 2}))
