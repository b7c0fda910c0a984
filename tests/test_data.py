"""Samples and batches: order, padding, checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfaip_like import ArraySource, Data, Mode, Processor, Sample, Spec, UsageError
from tfaip_like.data import TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._loader.batch_builder import BatchBuilder
from tfaip_like.data._loader.batching import collate
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._sources.arrays import RowSource


class Numbers(Data):
    """The numbers from 0, each with its square."""

    count: int = 10
    """How many."""

    as_list: bool = False
    """Whether the source is a list."""

    inputs = {"x": Spec((), "int32")}
    targets = {"y": Spec((), "float32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        x = np.arange(self.count)
        source = ArraySource({"x": x}, {"y": x**2})
        return list(source) if self.as_list else source


class Jitter(Processor):
    """Adds a random number."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return Sample({"x": sample.inputs["x"]}, {"y": random.random()})


class TrainOnly(Jitter):
    """Adds a random number in training."""

    modes = (Mode.TRAIN,)


def open_loader(data: Data, settings: TrainLoaderSettings, samples_per_epoch: int | None, seed: int) -> DataLoader:
    return open_training(data, data.source(Mode.TRAIN), settings, samples_per_epoch, seed)


def opened_validation(data: Data, settings: ValLoaderSettings, seed: int) -> DataLoader | None:
    return open_validation(data, data.source(Mode.EVALUATE), settings, seed)


def stream(batches: DataLoader, steps: int) -> list[int]:
    return [int(x) for step in range(steps) for x in batches.batch(step).inputs["x"]]


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 2**32 - 1), plain=st.booleans())
def test_each_epoch_contains_every_sample_once(count: int, batch_size: int, seed: int, plain: bool) -> None:
    data = Numbers(count=count, as_list=not plain)
    batches = open_loader(data, TrainLoaderSettings(batch_size=batch_size), None, seed)
    seen = stream(batches, -(-3 * count // batch_size))
    for data_pass in range(3):
        assert sorted(seen[data_pass * count : (data_pass + 1) * count]) == list(range(count))
    assert batches.steps_per_epoch == max(1, count // batch_size)


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int) -> list[int]:
        return stream(open_loader(Numbers(count=50), TrainLoaderSettings(batch_size=50), None, seed), 2)

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:50] != order(1)[50:]


def test_without_shuffling_the_order_is_that_of_the_source() -> None:
    batches = open_loader(Numbers(), TrainLoaderSettings(batch_size=4, shuffle=False), None, 1)
    assert stream(batches, 5) == [*range(10), *range(10)]


@given(step=st.integers(0, 1000), count=st.integers(1, 8))
def test_a_batch_depends_only_on_its_number(step: int, count: int) -> None:
    batches = open_loader(Numbers(count=17), TrainLoaderSettings(batch_size=5), None, 3)
    later = open_loader(Numbers(count=17), TrainLoaderSettings(batch_size=5), None, 3)
    one_by_one = [later.batch(number).inputs["x"] for number in reversed(range(step, step + count))][::-1]
    assert batches.batch_sampler is not None
    draws = [batches.batch_sampler.draw(number) for number in range(step, step + count)]
    together = BatchBuilder(batches.samples, stacked=True)(draws)
    np.testing.assert_array_equal(together.inputs["x"], one_by_one)


def test_batches_of_rows_are_written_to_their_stack() -> None:
    class Rows(list[Sample], RowSource):
        def rows(self, indices: Any) -> Any:
            return {"x": np.stack([self[i].inputs["x"] for i in indices])}, {"y": np.zeros(len(indices), "float32")}

    class Read(Numbers):
        def source(self, mode: Mode) -> Any:
            return Rows(Sample({"x": np.int32(i)}, {"y": 0.0}) for i in range(10))

    loader = open_loader(Read(), TrainLoaderSettings(batch_size=5, num_processes=0), None, 3)
    assert loader.batch_sampler is not None
    draws = loader.batch_sampler.draw_batches(0, 4)
    stacked = BatchBuilder(loader.samples, stacked=True)(draws)
    np.testing.assert_array_equal(stacked.inputs["x"], [loader.batch(number).inputs["x"] for number in range(4)])


def test_random_numbers_of_processors_depend_only_on_seed_epoch_and_sample() -> None:
    data = Numbers(processors=[Jitter()])

    def values(batch_size: int, seed: int = 1) -> dict[tuple[int, int], float]:
        """(pass, sample) -> random number."""
        batches = open_loader(data, TrainLoaderSettings(batch_size=batch_size), None, seed)
        made: dict[tuple[int, int], float] = {}
        for step in range(20 // batch_size):
            batch = batches.batch(step)
            for place, (x, y) in enumerate(zip(batch.inputs["x"], batch.targets["y"], strict=True)):
                made[(step * batch_size + place) // 10, int(x)] = float(y)
        return made

    assert values(5) == values(10) == values(1)
    assert values(5) != values(5, seed=2)
    assert len(set(values(5).values())) == 20


def test_processors_run_in_their_modes() -> None:
    data = Numbers(processors=[TrainOnly()])
    assert open_loader(data, TrainLoaderSettings(), None, 1).batch(0).targets["y"].max() < 1
    validation = opened_validation(data, ValLoaderSettings(), 1)
    assert validation is not None
    assert validation.batch(0).targets["y"].max() == 81


def test_limit_and_samples_per_epoch() -> None:
    batches = open_loader(Numbers(), TrainLoaderSettings(batch_size=2, limit=4), 10, 1)
    assert batches.steps_per_epoch == 5
    assert set(stream(batches, 5)) == {0, 1, 2, 3}
    validation = opened_validation(Numbers(), ValLoaderSettings(limit=4), 1)
    assert validation is not None
    assert [len(batch) for batch in validation.iter_pass()] == [4]


def test_validation_has_every_sample_once_in_order_with_a_smaller_last_batch() -> None:
    validation = opened_validation(Numbers(), ValLoaderSettings(batch_size=4), 1)
    assert validation is not None
    assert [list(batch.inputs["x"]) for batch in validation.iter_pass()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_samples_of_a_batch_keep_their_meta_and_get_their_outputs() -> None:
    samples = [Sample({"x": [1.0, 2.0]}, {"y": 3}, meta={"name": name}) for name in "ab"]
    batch = collate(samples, {"x": Spec((None,))}, {"y": Spec((), "int64")})
    judged = list(batch.samples({"z": np.array([5, 6])}))
    assert [sample.meta["name"] for sample in judged] == ["a", "b"]
    assert [int(sample.outputs["z"]) for sample in judged] == [5, 6]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=5),
    st.sampled_from(["float32", "int32"]),
)
def test_padding_keeps_every_value_and_fills_the_rest(shapes: list[tuple[int, int]], dtype: str) -> None:
    arrays = [np.arange(1, 1 + height * width, dtype=dtype).reshape(height, width) for height, width in shapes]
    spec = Spec((None, None), dtype, padding=-1)
    joined = collate([Sample({"x": array}) for array in arrays], {"x": spec}, {}).inputs["x"]
    assert joined.shape == (len(arrays), max(h for h, _ in shapes), max(w for _, w in shapes))
    assert joined.dtype == dtype
    for row, array in zip(joined, arrays, strict=True):
        height, width = array.shape
        np.testing.assert_array_equal(row[:height, :width], array)
        assert (row == -1).sum() == row.size - array.size


@pytest.mark.parametrize(
    ("value", "spec", "problem"),
    [
        (np.zeros((2, 3)), Spec((2, 4)), r"has shape \(2, 3\), but its Spec says \(2, 4\)"),
        (np.zeros(2), Spec((None, 1)), r"has shape \(2,\), but its Spec says \(any, 1\)"),
        (0.5, Spec((), "int32"), "has dtype float64, which cannot be cast to the int32"),
        ("text", Spec(()), "has dtype <U4"),
        (300, Spec((), "uint8"), "has values out of the range of the uint8"),
    ],
)
def test_a_value_that_does_not_fit_its_spec_is_named(value: Any, spec: Spec, problem: str) -> None:
    with pytest.raises(UsageError, match=rf"input 'x' {problem}"):
        collate([Sample({"x": value})], {"x": spec}, {})


def test_rows_of_arrays_are_checked_in_one_call() -> None:
    class Wraps(Numbers):
        targets = {"y": Spec((), "uint8")}

    open_loader(Wraps(count=16), TrainLoaderSettings(), None, 1)
    with pytest.raises(UsageError, match="'y' has values out of the range of the uint8"):
        open_loader(Wraps(count=17), TrainLoaderSettings(), None, 1)


@pytest.mark.parametrize("value", [3, 3.0, True, [1, 2], np.float64(2), np.int64(2)])
def test_plain_python_values_are_accepted_where_arrays_are_meant(value: Any) -> None:
    spec = Spec(np.shape(value))
    assert collate([Sample({"x": value})], {"x": spec}, {}).inputs["x"].dtype == "float32"


def test_a_wrong_sample_far_into_the_data_is_named() -> None:
    class Late(Numbers):
        def source(self, mode: Mode) -> Sequence[Sample]:
            return [Sample({"x": i}, {"y": 0.0 if i != 7 else "seven"}) for i in range(10)]

    batches = open_loader(Late(), TrainLoaderSettings(batch_size=5, shuffle=False), None, 1)
    batches.batch(0)
    with pytest.raises(UsageError, match="training sample 7 of Late: target 'y' has dtype <U5"):
        batches.batch(1)


def test_an_error_in_a_processor_names_the_sample() -> None:
    class Breaks(Processor):
        def process(self, sample: Sample, random: np.random.Generator) -> Sample:
            return sample if sample.inputs["x"] != 3 else sample.inputs["missing"]

    batches = open_loader(Numbers(processors=[Breaks()]), TrainLoaderSettings(batch_size=5, shuffle=False), None, 1)
    with pytest.raises(KeyError) as raised:
        batches.batch(0)
    assert raised.value.__notes__ == ["This was training sample 3 of Numbers."]


def test_an_input_and_a_target_of_one_name_are_both_checked() -> None:
    class Same(Numbers):
        inputs = {"x": Spec((), "uint8")}
        targets = {"x": Spec((), "int32")}

        def source(self, mode: Mode) -> Sequence[Sample]:
            return ArraySource({"x": np.arange(300)}, {"x": np.arange(300)})

    with pytest.raises(UsageError, match="'x' has values out of the range of the uint8"):
        open_loader(Same(), TrainLoaderSettings(), None, 1)


def test_a_source_of_something_else_is_reported_with_and_without_processors() -> None:
    class Strange(Numbers):
        def source(self, mode: Mode) -> Any:
            return [1, 2, 3]

    for data in (Strange(), Strange(processors=[Jitter()])):
        with pytest.raises(UsageError, match="training sample 0 of Strange is an int, expected Sample"):
            open_loader(data, TrainLoaderSettings(), None, 1)


def test_a_slice_of_an_array_source_is_one() -> None:
    source = ArraySource({"x": np.arange(10)}, {"y": np.arange(10)})
    assert isinstance(source[2:5], ArraySource)
    assert [int(sample.inputs["x"]) for sample in source[2:5]] == [2, 3, 4]
