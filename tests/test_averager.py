"""Averages of losses and metrics: weighting by samples, non-finite values, and agreement of the two kinds of sums."""

from __future__ import annotations

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfaip_like.evaluation._averager import HostMean, MetricAverager, batch_mean, total_loss
from tfaip_like.evaluation._metric_values import WeightedMean

numbers = st.floats(-1e6, 1e6, width=32)
batches = st.lists(st.tuples(numbers, st.integers(1, 300)), min_size=1, max_size=20)


def averaged(name: str, pairs: list[tuple[float, int]]) -> float:
    averager = MetricAverager(HostMean, {})
    for value, num_samples in pairs:
        averager.update_metrics({name: WeightedMean(np.float32(value), num_samples)})
    return float(averager.results()[name])


@given(batches)
def test_each_batch_counts_as_many_times_as_it_has_samples(pairs: list[tuple[float, int]]) -> None:
    exact = sum(Fraction(value) * size for value, size in pairs) / sum(size for _, size in pairs)
    largest = max(abs(value) for value, _ in pairs)
    assert averaged("m", pairs) == pytest.approx(float(exact), abs=1e-12 * max(largest, 1.0))


@given(batches)
def test_the_sum_has_the_bits_of_float64_additions_in_the_order_of_batches(pairs: list[tuple[float, int]]) -> None:
    total = 0.0
    for value, size in pairs:
        total += size * value
    assert averaged("m", pairs) == total / sum(size for _, size in pairs)


@given(batches, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(1, 9))
def test_one_non_finite_batch_makes_the_average_non_finite(
    pairs: list[tuple[float, int]], bad: float, size: int
) -> None:
    assert not math.isfinite(averaged("m", [*pairs, (bad, size)]))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1, max_size=8))
def test_sums_in_variables_and_on_the_host_agree_where_float32_is_exact(pairs: list[tuple[int, int]]) -> None:
    averagers = [
        MetricAverager(lambda name: keras.metrics.Mean(name=name), {"b": 2.0}, losses=["a", "b"]),
        MetricAverager(HostMean, {"b": 2.0}),
    ]
    for averager in averagers:
        for value, size in pairs:
            averager.update_losses({"a": np.float32(value), "b": np.float32(1)}, size)
    in_variables, on_host = ({name: float(v) for name, v in a.results().items()} for a in averagers)
    assert list(in_variables) == list(on_host) == ["loss", "a", "b"]
    assert in_variables == pytest.approx(on_host, rel=1e-6)


@given(st.dictionaries(st.sampled_from("abc"), numbers), st.dictionaries(st.sampled_from("abcd"), numbers), numbers)
def test_the_total_loss_is_the_weighted_sum_of_all_losses(
    losses: dict[str, float], weights: dict[str, float], start: float
) -> None:
    expected = start
    for name, value in losses.items():
        expected += weights.get(name, 1.0) * value
    assert total_loss(losses, weights, start) == expected


def test_without_values_there_are_no_averages_and_a_mean_is_0_as_in_keras() -> None:
    assert MetricAverager(HostMean, {}).results() == {}
    assert HostMean().result() == float(keras.metrics.Mean().result()) == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_the_mean_of_a_batch_is_float32_for_every_dtype(dtype: str) -> None:
    ones = keras.ops.ones((70_000,), dtype=dtype)  # their sum exceeds the maximum of float16
    mean = batch_mean(ones)
    assert keras.backend.standardize_dtype(mean.dtype) == "float32"
    assert float(mean) == 1.0
