"""Schedules: their shape, and that every field reaches Keras."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest

from tfaip_like import UsageError
from tfaip_like.params._base import default_instance, field_default, field_types
from tfaip_like.params._ignored_flags import iter_ignored_params
from tfaip_like.params._tree import validate_params
from tfaip_like.params._variants import available_variants
from tfaip_like.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseSqrt,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    ReduceOnPlateau,
    Schedule,
    TrainingLength,
)

SCHEDULES = available_variants(Schedule)
INFINITY = float("inf")
COURSE = TrainingLength(steps_per_epoch=10, epochs=20)
OTHER_VALUES: dict[str, Any] = {
    "lr": 0.004,
    "warmup_epochs": 2.0,
    "warmup_factor": 0.25,
    "constant_epochs": 3.0,
    "decay_epochs": 5.0,
    "decay": 0.5,
    "staircase": True,
    "alpha": 0.5,
    "end_lr": 0.0005,
    "power": 2.0,
    "cycle": True,
    "boundaries": [1.0, 2.0, 3.0],
    "factors": [0.5, 0.25, 0.125],
    "rise": 0.5,
    "start_factor": 0.5,
    "end_factor": 0.5,
    "timescale_epochs": 4.0,
}
OF_THE_TRAINER = {"find", "factor", "patience", "min_delta", "cooldown", "min_lr"}
"""Fields that act before or between epochs; see test_learning_rate_search and test_plateau."""


def rates(schedule: Schedule, training_length: TrainingLength = COURSE) -> np.ndarray[Any, Any]:
    """Return the learning rate of each step of a course."""
    validate_params(schedule)
    built = schedule.build(training_length)
    return np.array([float(built(step)) for step in range(training_length.steps_per_epoch * training_length.epochs)])


ALL_FIELDS = [
    (name, field) for name, cls in SCHEDULES.items() for field in field_types(cls) if field not in OF_THE_TRAINER
]


@pytest.mark.parametrize(("name", "field"), ALL_FIELDS)
def test_a_field_set_off_its_default_is_found_again_in_the_keras_object(name: str, field: str) -> None:
    cls = SCHEDULES[name]
    value = OTHER_VALUES[field]
    assert value != field_default(cls, field)
    if (name, field) == ("OneCycle", "warmup_factor"):
        assert (field,) in dict(iter_ignored_params(cls(**{field: value})))
        return
    if (name, field) == ("OneCycle", "warmup_epochs"):
        with pytest.raises(Exception, match="warm-up"):
            validate_params(cls(**{field: value}))
        return
    together = {"warmup_epochs": 2.0} if field == "warmup_factor" else {}
    config = cls(**together, **{field: value}).build(COURSE).get_config()
    default = cls(**together).build(COURSE).get_config()
    assert config != default
    flat = str(config)
    in_keras = {
        "warmup_epochs": "'warmup_steps': 20",
        "constant_epochs": "'constant_steps': 30",
        "decay_epochs": "'decay_steps': 50",
        "timescale_epochs": "'timescale': 40",
        "boundaries": "'boundaries': [9, 19, 29]",
        "factors": "'values': [0.001, 0.0005, 0.00025, 0.000125]",
        "decay": "'decay_rate': 0.5",
        "end_lr": "'end_learning_rate': 0.0005",
    }
    assert in_keras.get(field, f"'{field}': {value}") in flat


def test_every_value_of_the_plateau_is_tested_elsewhere() -> None:
    plain = {"lr", "warmup_epochs", "warmup_factor"}
    assert set(field_types(ReduceOnPlateau)) == plain | OF_THE_TRAINER


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_highest_at_its_lr_and_never_negative(name: str) -> None:
    values = rates(default_instance(SCHEDULES[name]))
    assert values.max() == pytest.approx(0.001, rel=0.01)
    assert values.min() >= 0


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "OneCycle"])
def test_the_warm_up_rises_in_a_straight_line_and_delays_the_rest(name: str) -> None:
    warm = rates(SCHEDULES[name](warmup_epochs=2.0, warmup_factor=0.5))
    np.testing.assert_allclose(warm[:20], 0.001 * (0.5 + 0.5 * np.arange(1, 21) / 20), rtol=1e-5)
    assert warm[20] == pytest.approx(0.001)


def test_constant_stays() -> None:
    assert set(rates(Constant())) == {np.float32(0.001)}


def test_exponential_decay_multiplies_per_epoch() -> None:
    values = rates(ExponentialDecay(decay=0.5, staircase=True))
    np.testing.assert_allclose(values[::10], 0.001 * 0.5 ** np.arange(20), rtol=1e-5)
    assert len(set(values[:10])) == 1


def test_cosine_decay_spans_the_whole_training() -> None:
    for epochs in (1, 20):
        values = rates(CosineDecay(alpha=0.1), TrainingLength(100, epochs))
        assert values[0] == pytest.approx(0.001)
        assert values[-1] == pytest.approx(0.0001, rel=0.05)
        assert values[len(values) // 2] == pytest.approx(0.00055, rel=0.01)


def test_constant_epochs_come_before_the_decay() -> None:
    values = rates(CosineDecay(warmup_epochs=1.0, constant_epochs=5.0))
    assert set(values[10:61]) == {np.float32(0.001)}
    assert values[62] < 0.001
    assert values[-1] < 1e-6


def test_polynomial_decay_ends_at_end_lr() -> None:
    assert rates(PolynomialDecay())[-1] == pytest.approx(0.0001, rel=0.05)


def test_piecewise_constant_changes_with_the_first_step_of_an_epoch() -> None:
    values = rates(PiecewiseConstant(boundaries=[1.0, 2.0], factors=[0.1, 0.01]))
    np.testing.assert_allclose(values[[0, 9, 10, 19, 20]], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-5)


def test_one_cycle_rises_and_falls() -> None:
    values = rates(OneCycle())
    assert values[0] == pytest.approx(0.00004)
    assert np.argmax(values) == pytest.approx(0.3 * 199, abs=1)
    assert values[-1] == pytest.approx(4e-9, rel=0.01)


def test_inverse_sqrt_after_its_warm_up_is_the_one_of_the_transformer() -> None:
    values = rates(InverseSqrt(warmup_epochs=4.0))
    steps = np.arange(40, 200)
    np.testing.assert_allclose(values[40:], 0.001 * np.sqrt(40 / steps), rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (CosineDecay(warmup_epochs=INFINITY), "warmup_epochs"),
        (CosineDecay(constant_epochs=INFINITY), "constant_epochs"),
        (CosineDecay(decay_epochs=INFINITY), "decay_epochs"),
        (InverseSqrt(timescale_epochs=INFINITY), "timescale_epochs"),
        (PiecewiseConstant(boundaries=[1.0, 2.0, INFINITY]), "boundaries"),
        (Constant(lr=float("nan")), "lr"),
    ],
)
def test_a_value_that_is_not_finite_is_rejected_by_name(schedule: Schedule, field: str) -> None:
    with pytest.raises(UsageError, match=f"{field}.*must be a finite number"):
        validate_params(schedule)


def test_schedules_are_restored_from_their_configuration() -> None:
    for cls in SCHEDULES.values():
        built = default_instance(cls).build(COURSE)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(built))
        assert [float(again(step)) for step in (0, 7, 150)] == [float(built(step)) for step in (0, 7, 150)]


def test_all_arguments_of_the_keras_schedules_are_used() -> None:
    """Detect a new argument of Keras."""
    known = {
        "ExponentialDecay": {"initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name"},
        "PolynomialDecay": {"initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle", "name"},
        "PiecewiseConstantDecay": {"boundaries", "values", "name"},
        # Keras' own warm-up is that of `Phases`, for all schedules.
        "CosineDecay": {"initial_learning_rate", "decay_steps", "alpha", "name", "warmup_target", "warmup_steps"},
    }
    for name, arguments in known.items():
        cls = getattr(keras.optimizers.schedules, name)
        assert set(inspect.signature(cls.__init__).parameters) - {"self"} == arguments
