"""Filters, class weights, balanced and resampled drawing, length buckets, mixtures."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfaip_like import ArraySource, Data, Mode, Sample, Spec, UsageError
from tfaip_like.data import (
    Filter,
    Mixture,
    Normal,
    RangeFilter,
    TrainLoaderSettings,
    Uniform,
    ValLoaderSettings,
    ValueFilter,
)
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._loader.sampler import (
    INDEX,
    MIN_SAMPLES_AHEAD,
    BucketBatchSampler,
    FixedSizeBatchSampler,
    Sampler,
    quantile_boundaries,
)
from tfaip_like.data._resampling import class_balanced_probabilities, compute_class_weights

COUNTS = (600, 300, 90, 10)


class Events(Data):
    """Events of four classes of very different sizes, with a number each."""

    as_list: bool = False
    """Whether they come one by one."""

    inputs = {"x": Spec((2,))}
    targets = {"class": Spec((), "int32"), "z": Spec((2,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(0)
        classes = random.permutation(np.repeat(np.arange(4), COUNTS))
        x = random.normal(size=(1000, 2))
        source = ArraySource({"x": x}, {"class": classes, "z": random.exponential(size=(1000, 2))})
        return list(source) if self.as_list else source


def open_loader(data: Data, **train: Any) -> DataLoader:
    return open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(num_processes=0, **train), None, 7)


def read_indices(batches: DataLoader, passes: int = 1) -> np.ndarray[Any, Any]:
    """Return the indices of some passes."""
    assert batches.order is not None
    return np.concatenate([batches.order.rows_of_pass(number)[:, INDEX] for number in range(passes)])


def chi_square(counts: Any, probabilities: Any) -> float:
    """Return the statistic of Pearson's test; its expectation is the number of its degrees of freedom."""
    expected = np.asarray(probabilities) * np.sum(counts)
    return float((((counts - expected) ** 2) / expected).sum())


@pytest.mark.parametrize("as_list", [False, True])
def test_class_weights_are_total_by_classes_times_size(as_list: bool) -> None:
    batches = open_loader(Events(as_list=as_list), balance="loss", batch_size=1000)
    batch = batches.batch(0)
    assert batch.weights is not None
    for name, count in enumerate(COUNTS):
        weights = batch.weights[batch.targets["class"] == name]
        np.testing.assert_allclose(weights, 1000 / (4 * count), rtol=1e-6)
    assert batch.weights.sum() == pytest.approx(1000)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50))
def test_weighted_classes_count_the_same(classes: list[int]) -> None:
    weights = compute_class_weights(np.array(classes))
    totals = {name: weight * classes.count(name) for name, weight in weights.items()}
    assert all(total == pytest.approx(len(classes) / len(totals)) for total in totals.values())


@pytest.mark.parametrize("as_list", [False, True])
def test_balanced_drawing_draws_all_classes_equally_often(as_list: bool) -> None:
    batches = open_loader(Events(as_list=as_list), balance="sample")
    source = Events().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    counts = np.bincount(source.targets["class"][read_indices(batches, 20)], minlength=4)
    assert chi_square(counts, [0.25] * 4) < 11.3  # 1 % of 3 degrees of freedom
    one_pass = np.bincount(source.targets["class"][read_indices(batches)], minlength=4)
    assert np.abs(one_pass - 250).max() <= 60  # systematic: each sample as often as its weight, rounded
    repeated = batches.order.rows_of_pass(0) if batches.order else np.zeros((0, 3))
    assert len({tuple(row) for row in repeated.tolist()}) == len(repeated), "every draw has different random numbers"


@pytest.mark.parametrize("inf_bounds", [True, False])
def test_resampling_to_a_uniform_distribution(inf_bounds: bool) -> None:
    resample = Uniform(target="z", component=0, low=0.0, high=2.0, n_buckets=5, inf_bounds=inf_bounds)
    batches = open_loader(Events(), resample=resample)
    source = Events().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    values = source.targets["z"][read_indices(batches, 20), 0]
    if not inf_bounds:
        assert values.max() <= 2.0
    counts = np.bincount(np.clip((values / 0.4).astype(int), 0, 4), minlength=5)
    assert chi_square(counts, [0.2] * 5) < 13.3  # 1 % of 4 degrees of freedom


def test_resampling_to_a_normal_distribution() -> None:
    source = ArraySource({"x": np.zeros((5000, 1))}, {"z": np.random.default_rng(1).uniform(-3, 3, 5000)})
    resample = Normal(target="z", mean=0.0, std=1.0, n_buckets=12, inf_bounds=True)
    weights = resample.weights(source.targets["z"])
    order = Sampler(np.arange(5000), 3, shuffle=True, weights=weights)
    values = np.concatenate([source.targets["z"][order.rows_of_pass(number)[:, INDEX]] for number in range(10)])
    edges = resample.edges(source.targets["z"])
    counts = np.histogram(np.clip(values, -3, 3), np.clip(edges, -3, 3))[0]
    masses = resample.masses(edges, source.targets["z"])
    assert masses.sum() == pytest.approx(1)
    assert chi_square(counts, masses) < 24.7  # 1 % of 11 degrees of freedom
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1, abs=0.05)


@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=40),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_samples_are_drawn_in_proportion_to_their_weights(weights: list[float], seed: int, shuffle: bool) -> None:
    probabilities = np.array(weights) / sum(weights)
    order = Sampler(np.arange(len(weights)), seed, shuffle, probabilities)
    counts = np.bincount(order.rows_of_pass(0)[:, INDEX], minlength=len(weights))
    assert counts.sum() == len(weights)
    expected = probabilities * len(weights)
    assert (counts >= np.floor(expected - 1e-6)).all()
    assert (counts <= np.ceil(expected + 1e-6)).all()


def test_within_a_class_the_weights_of_a_mixture_remain() -> None:
    classes = np.array([0, 0, 0, 1])
    weights = class_balanced_probabilities(classes, np.array([0.1, 0.1, 0.4, 0.4]))
    np.testing.assert_allclose(weights, [1 / 12, 1 / 12, 1 / 3, 1 / 2])


@pytest.mark.parametrize("as_list", [False, True])
def test_filters_are_chained_and_report_removed_samples(as_list: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    filters: list[Filter] = [ValueFilter(name="class", values=["0", "1"]), RangeFilter(name="x", component=0, low=0.0)]
    batches = open_loader(Events(as_list=as_list), filter=filters)
    source = Events().source(Mode.TRAIN)
    assert isinstance(source, ArraySource)
    expected = np.flatnonzero((source.targets["class"] < 2) & (source.inputs["x"][:, 0] >= 0))
    assert len(batches) == len(expected)
    assert sorted(read_indices(batches)) == expected.tolist()
    assert "ValueFilter(name='class', values=['0', '1']) removed 100 of 1000 samples" in caplog.text
    assert f"removed {900 - len(expected)} of 900 samples" in caplog.text


def test_a_filter_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"--train\.filter: no sample of Events passes the filters"):
        open_loader(Events(), filter=[RangeFilter(name="x", component=0, low=99.0)])


def test_validation_can_be_filtered_too() -> None:
    data = Events()
    settings = ValLoaderSettings(filter=[ValueFilter(name="class", values=["3"])])
    batches = open_validation(data, data.source(Mode.EVALUATE), settings, 7)
    assert batches is not None
    assert sum(len(batch) for batch in batches.iter_pass()) == 10


def test_a_mixture_is_drawn_from_by_weight() -> None:
    parts = [ArraySource({"x": np.full((count, 2), number)}) for number, count in enumerate((900, 90, 10))]
    mixture = Mixture(parts, weights=[1, 1, 2])
    assert mixture.sampling_weights is not None
    order = Sampler(np.arange(1000), 1, shuffle=True, weights=mixture.sampling_weights / mixture.sampling_weights.sum())
    indices = np.concatenate([order.rows_of_pass(number)[:, INDEX] for number in range(20)])
    counts = np.histogram(indices, [0, 900, 990, 1000])[0]
    assert chi_square(counts, [0.25, 0.25, 0.5]) < 9.2  # 1 % of 2 degrees of freedom
    assert mixture[899].inputs["x"][0] == 0
    assert mixture[900].inputs["x"][0] == 1
    assert mixture.describe(995) == "index 5 of source 3"


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    batch_size=st.integers(1, 12),
    buckets=st.integers(1, 5),
    most=st.one_of(st.none(), st.integers(1, 200)),
    seed=st.integers(0, 99),
)
def test_buckets_have_every_sample_once_in_a_pass_and_keep_their_limits(
    lengths: list[int], batch_size: int, buckets: int, most: int | None, seed: int
) -> None:
    array = np.array(lengths)
    order = Sampler(np.arange(len(lengths)), seed, shuffle=True)
    batches = BucketBatchSampler(order, batch_size, array, quantile_boundaries(array, buckets), most)
    for data_pass in range(2):
        first = data_pass * batches.batches_per_pass
        draws = [batches.draw(first + number) for number in range(batches.batches_per_pass)]
        assert sorted(np.concatenate(draws)[:, INDEX].tolist()) == list(range(len(lengths)))
        for draw in draws:
            assert len(draw) <= batch_size
            if most is not None and len(draw) > 1:
                assert len(draw) * array[draw[:, INDEX]].max() <= most


@pytest.mark.parametrize("count", [7, MIN_SAMPLES_AHEAD])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_of_a_pass_depends_on_seed_and_pass_only(count: int, shuffle: bool) -> None:
    indices = 3 * np.arange(count)
    passes = [np.random.default_rng((5, n)).permutation(count) if shuffle else np.arange(count) for n in range(4)]
    expected = np.concatenate(
        [[np.full(count, n), indices[order], 0 * order] for n, order in enumerate(passes)], axis=1
    )
    order, step = Sampler(indices, 5, shuffle), count // 3 + 1  # batches span two passes
    draws = [order.rows_at(begin, min(step, 4 * count - begin)) for begin in range(0, 4 * count, step)]
    assert np.array_equal(np.concatenate(draws), expected.T)
    assert np.array_equal(order.rows_at(0, count), expected.T[:count])  # back to the first pass


def test_the_order_of_many_samples_takes_little_memory() -> None:
    order = Sampler(np.arange(1_000_000), 0, shuffle=True)
    tracemalloc.start()
    for step in range(4):
        order.rows_at(step * 1_000_000 - 8 if step else 0, 16)
    order._drawing.join()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10e6  # two passes of 4 bytes per sample
    assert peak < 20e6  # and a third while it is drawn


def test_buckets_reduce_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    order = Sampler(np.arange(2000), 0, shuffle=True)

    def padded(draws: Any) -> int:
        return sum(len(draw) * int(lengths[draw[:, INDEX]].max()) for draw in draws)

    mixed = padded(FixedSizeBatchSampler(order, 16).iter_pass())
    sorted_by_length = padded(
        BucketBatchSampler(order, 16, lengths, quantile_boundaries(lengths, 10), None).iter_pass()
    )
    assert sorted_by_length < 0.65 * mixed
