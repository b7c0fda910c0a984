"""When a training ends before its last epoch."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import Largest, Line, Points, small

from tfaip_like import Sample, UsageError, train
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._runs.run_files import read_metrics
from tfaip_like._training.selection.early_stopping import EarlyStopper
from tfaip_like.optimizers import SGD
from tfaip_like.params._files import read_param_file
from tfaip_like.schedules import Constant
from tfaip_like.settings import EarlyStopping
from tfaip_like.settings._interval import Elapsed

Mode = Literal["min", "max"]
NAN, INF = math.nan, math.inf
MISSING = None
"""The value of an epoch that was not validated."""


def early_stop(mode: Mode, **fields: Any) -> EarlyStopper:
    return EarlyStopper(EarlyStopping(**fields), "val_x", mode)


def stop_epoch(stop: EarlyStopper, values: Sequence[float | None]) -> int | None:
    """Return the first epoch with a reason to stop."""
    return next((epoch for epoch, value in enumerate(values, 1) if stop.update(at(epoch), value)), None)


def at(epoch: float) -> Elapsed:
    """Return a place in a run of 100 steps and 60 seconds per epoch."""
    return Elapsed(epoch, round(100 * epoch), 60.0 * epoch)


FALLING = [float(value) for value in range(9, 0, -1)]
RISING = [float(value) for value in range(1, 10)]

TABLE: list[tuple[str, Mode, dict[str, Any], list[float | None], int | None]] = [
    # Nothing is asked for.
    ("no settings, no stop", "min", {}, [1.0] * 50, None),
    ("frequency alone stops nothing", "min", {"frequency": 2}, [1.0] * 50, None),
    ("min_delta alone stops nothing", "max", {"min_delta": 1.0}, [1.0] * 50, None),
    ("no epoch, no stop", "min", {"n_to_go": 1}, [], None),
    # Tests in a row.
    ("the first value is an improvement", "min", {"n_to_go": 1}, [5.0], None),
    ("one test", "min", {"n_to_go": 1}, [5.0, 5.0], 2),
    ("an equal value is not an improvement", "max", {"n_to_go": 2}, [5.0, 5.0, 5.0], 3),
    ("a worse value is not an improvement", "min", {"n_to_go": 2}, [5.0, 6.0, 7.0], 3),
    ("better than the one before is not better than the best", "min", {"n_to_go": 3}, [1.0, 4.0, 3.0, 2.0], 4),
    ("min falls forever", "min", {"n_to_go": 1}, FALLING, None),
    ("max rises forever", "max", {"n_to_go": 1}, RISING, None),
    ("max that falls", "max", {"n_to_go": 3}, FALLING, 4),
    ("min that rises", "min", {"n_to_go": 3}, RISING, 4),
    ("an improvement counts again", "min", {"n_to_go": 2}, [5.0, 6.0, 4.0, 5.0, 4.0], 5),
    ("just in time, again and again", "min", {"n_to_go": 2}, [5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0], None),
    ("negative values", "min", {"n_to_go": 2}, [-1.0, -2.0, -1.5, -1.9], 4),
    ("five after the last improvement", "min", {"n_to_go": 5}, [*FALLING, *[1.0] * 9], 14),
    # Every few epochs.
    ("frequency 2, two tests", "min", {"n_to_go": 2, "frequency": 2}, [9.0, 8.0, *[8.0] * 9], 6),
    ("an improvement between two tests", "min", {"n_to_go": 2, "frequency": 2}, [9.0, 9, 9, 9, 8.0, *[9.0] * 9], 10),
    ("an improvement that is gone again", "max", {"n_to_go": 1, "frequency": 3}, [1, 1, 1, 2, 0, 0, 0, 0, 0.0], 9),
    ("the first test comes at epoch f", "min", {"n_to_go": 1, "frequency": 4}, [1.0] * 9, 8),
    ("too few epochs for a test", "min", {"n_to_go": 1, "frequency": 10}, [1.0] * 9, None),
    ("n_to_go times frequency", "min", {"n_to_go": 3, "frequency": 3}, [9, 8, 7, *[7.0] * 20], 12),
    # The least change.
    ("less than min_delta", "min", {"n_to_go": 2, "min_delta": 1.0}, [5.0, 4.5, 4.25], 3),
    ("exactly min_delta", "min", {"n_to_go": 1, "min_delta": 1.0}, [5.0, 4.0], 2),
    ("more than min_delta", "max", {"n_to_go": 1, "min_delta": 1.0}, [5.0, 6.5, 8.0], None),
    ("small steps add up", "min", {"n_to_go": 2, "min_delta": 1.0}, [5.0, 4.25, 3.5, 2.75, 2.0, 2.0, 2.0], 7),
    ("small steps add up too late", "max", {"n_to_go": 2, "min_delta": 1.0}, [5.0, 5.5, 6.0, 6.5], 3),
    # Thresholds with mode max.
    ("max: not counted below lower_threshold", "max", {"n_to_go": 1, "lower_threshold": 0.5}, [0.25] * 20, None),
    ("max: counted from it on", "max", {"n_to_go": 2, "lower_threshold": 0.5}, [0.25, 0.25, 0.25, 0.5, 0.5, 0.5], 6),
    ("max: the best so far decides", "max", {"n_to_go": 2, "lower_threshold": 0.5}, [0.75, 0.25, 0.25], 3),
    ("max: upper_threshold is reached", "max", {"upper_threshold": 0.75}, [0.25, 0.5, 0.75], 3),
    ("max: upper_threshold is passed", "max", {"upper_threshold": 0.75}, [0.25, 0.875], 2),
    ("max: immediately, between two tests", "max", {"upper_threshold": 0.75, "frequency": 5}, [0.75], 1),
    ("max: before n_to_go", "max", {"n_to_go": 3, "upper_threshold": 0.75}, [0.25, 0.25, 1.0], 3),
    ("max: after n_to_go", "max", {"n_to_go": 2, "upper_threshold": 0.75}, [0.25, 0.25, 0.25, 1.0], 3),
    (
        "max: reached without an improvement by min_delta",
        "max",
        {"n_to_go": 2, "lower_threshold": 0.5, "min_delta": 0.25},
        [0.375, 0.375, 0.5, 0.5],
        4,
    ),
    # Thresholds with mode min.
    ("min: not counted above upper_threshold", "min", {"n_to_go": 1, "upper_threshold": 0.5}, [0.75] * 20, None),
    ("min: counted from it on", "min", {"n_to_go": 2, "upper_threshold": 0.5}, [0.75, 0.75, 0.5, 0.5, 0.5], 5),
    ("min: lower_threshold is reached", "min", {"lower_threshold": 0.25}, [0.75, 0.5, 0.25], 3),
    ("min: lower_threshold is passed", "min", {"lower_threshold": 0.25}, [0.5, 0.125], 2),
    ("min: immediately, between two tests", "min", {"lower_threshold": 0.25, "frequency": 5}, [1.0, 0.25], 2),
    ("min: a threshold of 0", "min", {"lower_threshold": 0.0}, [0.5, 0.0], 2),
    # No numbers.
    ("NaN is never an improvement", "min", {"n_to_go": 2}, [5.0, NAN, NAN], 3),
    ("NaN at first", "max", {"n_to_go": 2}, [NAN, 1.0, 1.0, 1.0], 4),
    ("NaN only", "min", {"n_to_go": 3}, [NAN] * 9, 3),
    ("NaN only, before the threshold", "min", {"n_to_go": 3, "upper_threshold": 1.0}, [NAN] * 9, None),
    ("NaN reaches no threshold", "max", {"upper_threshold": 0.5}, [NAN] * 9, None),
    ("infinity is a value like others", "min", {"n_to_go": 2}, [INF, INF, 1.0, INF, INF], 5),
    ("infinity with min_delta", "min", {"n_to_go": 2, "min_delta": 1.0}, [INF, INF, INF], 3),
    # Epochs that were not validated.
    ("never validated", "min", {"n_to_go": 1}, [MISSING] * 20, None),
    ("every third epoch is validated", "min", {"n_to_go": 2}, [MISSING, MISSING, 1.0] * 5, 9),
    ("missing values do not count again", "min", {"n_to_go": 2}, [1.0, 1.0, MISSING, MISSING, 1.0], 5),
    ("a test of epochs without a value", "min", {"n_to_go": 1, "frequency": 2}, [1.0, 1.0, MISSING, MISSING], None),
    ("a test with one value", "min", {"n_to_go": 1, "frequency": 2}, [1.0, 1.0, 1.0, MISSING], 4),
    (
        "an improvement next to a missing value",
        "min",
        {"n_to_go": 1, "frequency": 2},
        [2.0, MISSING, 1.0, MISSING],
        None,
    ),
]


@pytest.mark.parametrize(("mode", "fields", "values", "expected"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_training_stops_at_the_expected_epoch(
    mode: Mode, fields: dict[str, Any], values: list[float | None], expected: int | None
) -> None:
    assert stop_epoch(early_stop(mode, **fields), values) == expected


MIRRORED = {"lower_threshold": "upper_threshold", "upper_threshold": "lower_threshold"}


@pytest.mark.parametrize(("mode", "fields", "values", "expected"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_min_is_the_mirror_image_of_max(
    mode: Mode, fields: dict[str, Any], values: list[float | None], expected: int | None
) -> None:
    mirrored = {MIRRORED.get(name, name): -value if name in MIRRORED else value for name, value in fields.items()}
    negative = [None if value is None else -value for value in values]
    assert stop_epoch(early_stop("max" if mode == "min" else "min", **mirrored), negative) == expected


@pytest.mark.parametrize(
    ("mode", "fields", "values", "reason"),
    [
        ("min", {"n_to_go": 2}, [3.0, 2.0, 4.0, 2.0], "val_x did not improve in 2 checks (best: epoch 2)"),
        ("min", {"n_to_go": 1}, [2.0, 4.0], "val_x did not improve in 1 check (best: epoch 1)"),
        (
            "min",
            {"n_to_go": 2, "min_delta": 0.5},
            [2.0, 1.75, 1.625],
            "val_x did not improve by more than 0.5 in 2 checks (best: epoch 3)",
        ),
        ("min", {"n_to_go": 1}, [NAN], "val_x did not improve in 1 check (it was always NaN)"),
        ("max", {"upper_threshold": 0.9}, [0.93751], "val_x 0.9375 reached the stop threshold 0.9"),
        ("min", {"lower_threshold": 0.01}, [0.00123], "val_x 0.00123 reached the stop threshold 0.01"),
    ],
)
def test_the_reason_of_early_stopping_is_reported(
    mode: Mode, fields: dict[str, Any], values: list[float], reason: str
) -> None:
    stop = early_stop(mode, **fields)
    assert [stop.update(at(epoch), value) for epoch, value in enumerate(values, 1)][-1] == reason


# Against a reference.


def reference(mode: Mode, settings: EarlyStopping, values: Sequence[float | None]) -> int | None:
    """Return the same, looking at the whole past after each epoch."""
    sign = 1.0 if mode == "max" else -1.0
    thresholds = [settings.lower_threshold, settings.upper_threshold][:: 1 if mode == "max" else -1]
    start, goal = (None if threshold is None else sign * threshold for threshold in thresholds)
    improvements: dict[int, float] = {}
    for epoch, value in enumerate(values, 1):
        if value is not None and not math.isnan(value):
            last = max(improvements, default=None)
            if last is None or sign * value > improvements[last] + settings.min_delta:
                improvements[epoch] = sign * value
    failed = 0
    for epoch in range(1, len(values) + 1):
        value = values[epoch - 1]
        if goal is not None and value is not None and sign * value >= goal:
            return epoch
        if epoch % settings.frequency:
            continue
        tested = range(epoch - settings.frequency + 1, epoch + 1)
        best = max((sign * v for v in values[:epoch] if v is not None and not math.isnan(v)), default=-INF)
        if any(e in improvements for e in tested):
            failed = 0
        elif any(values[e - 1] is not None for e in tested) and (start is None or best >= start):
            failed += 1
            if failed == settings.n_to_go:
                return epoch
    return None


eighths = st.integers(-16, 16).map(lambda number: number / 8)
values_of_epochs = st.lists(st.none() | st.just(NAN) | eighths, max_size=40)


@st.composite
def settings(draw: st.DrawFn) -> EarlyStopping:
    low, high = sorted(draw(st.lists(eighths, min_size=2, max_size=2, unique=True)))
    return EarlyStopping(
        n_to_go=draw(st.integers(0, 5)),
        frequency=draw(st.integers(1, 4)),
        min_delta=draw(st.sampled_from([0.0, 0.125, 0.5])),
        lower_threshold=low if draw(st.booleans()) else None,
        upper_threshold=high if draw(st.booleans()) else None,
    )


@given(st.sampled_from(["min", "max"]), settings(), values_of_epochs)
def test_early_stopping_equals_a_reference_implementation(
    mode: Mode, chosen: EarlyStopping, values: list[float | None]
) -> None:
    assert stop_epoch(EarlyStopper(chosen, "val_x", mode), values) == reference(mode, chosen, values)


@given(st.sampled_from(["min", "max"]), settings(), values_of_epochs)
def test_early_stopping_can_be_restored_at_every_epoch(
    mode: Mode, chosen: EarlyStopping, values: list[float | None]
) -> None:
    straight = EarlyStopper(chosen, "val_x", mode)
    resumed = EarlyStopper(chosen, "val_x", mode)
    for epoch, value in enumerate(values, 1):
        state = resumed.state()
        resumed = EarlyStopper(chosen, "val_x", mode)
        resumed.restore(state, at(epoch - 1))
        assert resumed.update(at(epoch), value) == straight.update(at(epoch), value)
        assert resumed.state() == straight.state()


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 20))
def test_training_stops_n_times_f_epochs_after_the_last_improvement(n_to_go: int, frequency: int, better: int) -> None:
    improvements = max(1, better * frequency)
    values = [float(-min(epoch, improvements)) for epoch in range(1, 200)]
    last = improvements if better else frequency  # seen by the first test
    assert stop_epoch(early_stop("min", n_to_go=n_to_go, frequency=frequency), values) == last + n_to_go * frequency


# In a training.

STANDS_STILL: dict[str, Any] = {
    "learning_rate": Constant(lr=1e-30),
    "optimizer": SGD(),
    "model": Line(dropout=0.0),
}
DIVERGES: dict[str, Any] = {
    "learning_rate": Constant(lr=0.3),
    "optimizer": SGD(momentum=0.95),
    "model": Line(dropout=0.0),
}


def test_a_training_that_stops_early_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "tfaip_like"):
        result = train(
            small(tmp_path / "run", trainer={"epochs": 9}, early_stopping=EarlyStopping(n_to_go=2), **STANDS_STILL)
        )
    reason = "val_loss did not improve in 2 checks (best: epoch 1)"
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.best_epoch == 1
    assert result.stopped_early == reason
    assert f"stopped early: {reason}" in caplog.messages
    run = tmp_path / "run"
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped_early"] == reason
    assert summary["last"]["epoch"] == 3
    assert (run / "export" / "serve" / "saved_model.pb").exists()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["epoch_0001", "epoch_0002", "epoch_0003"]
    state = json.loads((run / "checkpoints" / "epoch_0003" / "state.json").read_text())
    assert state["selection"]["early_stopping"]["failed_tests"] == 2


def test_without_early_stopping_all_epochs_are_trained(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", **STANDS_STILL))
    assert len(result.history) == 3
    assert result.stopped_early is None
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["stopped_early"] is None


def test_a_reason_after_the_last_epoch_is_none() -> None:
    result = train(small(early_stopping=EarlyStopping(n_to_go=2), **STANDS_STILL))
    assert len(result.history) == 3
    assert result.stopped_early is None


def test_only_validated_epochs_are_tested() -> None:
    result = train(
        small(trainer={"epochs": 9, "val_every_n": 2}, early_stopping=EarlyStopping(n_to_go=1), **STANDS_STILL)
    )
    assert len(result.history) == 4


def test_a_threshold_stops_a_training() -> None:
    result = train(small(trainer={"epochs": 9}, early_stopping=EarlyStopping(lower_threshold=100.0)))
    assert len(result.history) == 1
    assert "reached the stop threshold 100" in str(result.stopped_early)


def test_the_last_epoch_has_a_lav_when_there_are_any() -> None:
    result = train(
        small(trainer={"epochs": 20, "lav_every_n": 10}, early_stopping=EarlyStopping(n_to_go=2), **STANDS_STILL)
    )
    assert [int(row["epoch"]) for row in result.history if "lav_loss" in row] == [1, 3]


def test_the_last_epoch_is_validated_when_any_is() -> None:
    chosen = EarlyStopping(monitor="loss", mode="min", lower_threshold=100.0)
    (row,) = train(small(trainer={"epochs": 20, "val_every_n": 10}, early_stopping=chosen)).history
    assert "val_loss" in row


def test_the_last_epoch_may_be_the_best_although_it_was_validated_late() -> None:
    chosen = EarlyStopping(n_to_go=2, frequency=3, min_delta=100.0)
    result = train(small(trainer={"epochs": 20, "val_every_n": 2}, early_stopping=chosen))
    assert [int(row["epoch"]) for row in result.history if "val_loss" in row][-1] == len(result.history) == 9
    assert result.best_epoch == 9


def test_early_stopping_flags_select_the_monitor(tmp_path: Path) -> None:
    chosen = EarlyStopping(monitor="val_largest_error", mode="max")
    result = train(small(tmp_path / "run", trainer={"epochs": 4}, early_stopping=chosen))
    largest = [row["val_largest_error"] for row in result.history]
    assert result.best_value == max(largest)
    assert result.best_epoch == 1 + largest.index(max(largest))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["monitor"] == "val_largest_error"


def test_a_value_of_lav_can_be_monitored() -> None:
    chosen = EarlyStopping(monitor="lav_loss", mode="min", n_to_go=1)
    result = train(small(trainer={"epochs": 9, "lav_every_n": 2}, early_stopping=chosen, **STANDS_STILL))
    assert len(result.history) == 2
    assert result.best_epoch == 1


@pytest.mark.slow
def test_best_is_never_replaced_by_a_worse_model(tmp_path: Path) -> None:
    """Stop a training that gets worse and worse, with a min_delta that calls nothing an improvement."""
    stopping = EarlyStopping(n_to_go=6, min_delta=1e6)
    result = train(small(tmp_path / "run", trainer={"epochs": 20}, early_stopping=stopping, **DIVERGES))
    losses = [row["val_loss"] for row in result.history]
    assert len(losses) == 7
    assert losses != sorted(losses, reverse=True)
    assert result.best_value == min(losses)
    best = read_param_file(tmp_path / "run" / "best" / "metrics.json")
    assert best["val_loss"] == min(losses)
    assert best["epoch"] == result.best_epoch
    weights = [np.load(tmp_path / "run" / name / "weights.npz") for name in ("best", "export")]
    assert any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0].files)


def test_the_last_export_is_that_of_the_best_epoch_where_they_are_the_same(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", trainer={"epochs": 2}))
    assert result.best_epoch == 2
    best, last = (
        {
            file.relative_to(tmp_path / "run" / name): file.read_bytes()
            for file in (tmp_path / "run" / name).rglob("*.*")
        }
        for name in ("best", "export")
    )
    differing = [file for file in best.keys() | last.keys() if best.get(file) != last.get(file)]
    assert differing == [Path("metrics.json")]


# Mistakes that only a training can find; all others are in test_user_mistakes.py.


@pytest.mark.parametrize(
    ("changes", "chosen", "message"),
    [
        (
            {},
            {"monitor": "val_lss", "mode": "min"},
            "EarlyStopping.monitor val_lss: unknown metric; available: loss, square, error, val_loss",
        ),
        ({}, {"monitor": "lr", "mode": "min"}, "EarlyStopping.monitor lr: unknown metric; available: loss"),
        (
            {},
            {"monitor": "lav_loss", "mode": "min"},
            "EarlyStopping.monitor lav_loss: unknown metric; available: loss",
        ),
        (
            {"data": Points(validation=False)},
            {"monitor": "val_loss", "mode": "min"},
            "EarlyStopping.monitor val_loss: unknown metric; available: loss, square, error",
        ),
    ],
)
def test_a_monitor_that_is_never_logged_is_an_error_at_the_start(
    changes: dict[str, Any], chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(small(evaluator=None, early_stopping=EarlyStopping(**chosen), **changes))


def test_a_monitor_of_the_evaluator_that_is_not_there_is_an_error_after_the_first_validation() -> None:
    with pytest.raises(
        UsageError, match=r"EarlyStopping.monitor val_f1: unknown metric; available: loss, .*val_largest_error"
    ):
        train(small(early_stopping=EarlyStopping(monitor="val_f1", mode="max")))


class NotJudged(Largest):
    """Does not know."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return {"largest_error": math.nan}


def test_a_monitor_that_is_always_nan_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = EarlyStopping(monitor="val_largest_error", mode="min")
    run = tmp_path / "run"
    train(small(run, trainer={"epochs": 2}, evaluator=NotJudged(), early_stopping=chosen))
    for epoch in (1, 2):
        assert f"val_largest_error is NaN in epoch {epoch}: there is no best/ yet" in caplog.text
    assert "no best epoch and no best/: val_largest_error was NaN in every epoch" in caplog.text
    assert f"the model of the last epoch is in {run / 'export'}" in caplog.text
    assert not (run / "best").exists()
    with pytest.raises(UsageError, match=r"this run has no best/: .* was NaN in every epoch; use .*/run/export"):
        resolve_export_dir(run)


class JudgedLater(Largest):
    """Knows it in the second epoch only."""

    numbers: ClassVar[Iterator[float]]

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return {"largest_error": next(self.numbers)}


def test_best_stays_that_of_an_epoch_with_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    JudgedLater.numbers = iter([NAN, 1.0, NAN])
    chosen = EarlyStopping(monitor="val_largest_error", mode="min")
    trainer = {"epochs": 3, "sanity_check": False}
    result = train(small(tmp_path / "run", trainer=trainer, evaluator=JudgedLater(), early_stopping=chosen))
    assert result.best_epoch == 2
    assert "val_largest_error is NaN in epoch 3: best/ is still epoch 2" in caplog.text
    assert read_metrics(tmp_path / "run" / "best")["epoch"] == 2


class Judged(Line):
    """Its best is a number that only an evaluator knows."""

    best = "val_largest_error", "min"


def test_thresholds_are_not_applied_to_a_substitute_metric() -> None:
    scenario = small(data=Points(validation=False), model=Judged(), evaluator=None)
    train(dataclasses.replace(scenario, early_stopping=EarlyStopping(n_to_go=5)))
    with pytest.raises(UsageError, match=r"EarlyStopping.lower_threshold: val_largest_error is not measured"):
        train(dataclasses.replace(scenario, early_stopping=EarlyStopping(lower_threshold=0.1)))
