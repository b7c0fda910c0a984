"""Validation every few steps or minutes: when it is due, what it records, and that it does not affect the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import slow
from hypothesis import given
from hypothesis import strategies as st
from small import Largest, Line, Noise, Points, Small, small
from stopping import StopsInValidation, copy_as_killed, differences, read_last_state

from tfaip_like import Interrupted, Sample, Tensors, keras, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import read_history
from tfaip_like._training.checkpointing.checkpoints import Position, list_checkpoints
from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.validations import Validations
from tfaip_like.schedules import Constant, ReduceOnPlateau
from tfaip_like.settings import EarlyStopping, Resume, Trainer

STEPS = 12
"""Steps of an epoch of the small scenario."""


def make_validations(epochs: int, val: int | str, lav: int | str) -> Validations:
    kinds: Any = SimpleNamespace(prefix="val_"), SimpleNamespace(prefix="lav_")
    return Validations(
        Trainer(epochs=epochs, val_every_n=val, lav_every_n=lav),
        kinds[0] if val else None,
        {"": kinds[1]} if lav else {},
    )


def due_steps(validations: Validations, steps_per_epoch: int, stops: Iterable[int] = ()) -> dict[str, list[int]]:
    """Return the steps of the run at which each validation is due, in a loop over single steps.

    Args:
        validations: validations of the run.
        steps_per_epoch: steps of an epoch.
        stops: steps at which another evaluation takes place.
    """
    state, found = TrainState(steps_per_epoch), cast(dict[str, list[int]], {})
    while state.epoch < validations.trainer.epochs:
        state.step += 1
        due = [validation.prefix for validation in validations.due_at(state)]
        for prefix in due:
            found.setdefault(prefix, []).append(state.global_step)
        if due or state.is_epoch_complete or state.global_step in stops:
            state.complete_evaluation()
    return found


@pytest.mark.parametrize(
    ("val", "lav", "expected"),
    [
        (1, 0, {"val_": [10, 20, 30]}),
        (2, 0, {"val_": [20, 30]}),
        ("2epochs", 0, {"val_": [20, 30]}),
        ("7steps", 0, {"val_": [7, 14, 21, 28, 30]}),
        ("10steps", 0, {"val_": [10, 20, 30]}),
        ("12steps", 0, {"val_": [12, 24, 30]}),
        ("100steps", 0, {"val_": [30]}),
        (0, "25steps", {"lav_": [10, 25, 30]}),
        (0, 2, {"lav_": [10, 20, 30]}),
        ("15steps", "5steps", {"val_": [15, 30], "lav_": [5, 10, 15, 20, 25, 30]}),
    ],
)
def test_validations_are_due_at_multiples_of_their_steps_and_at_the_end(
    val: int | str, lav: int | str, expected: dict[str, list[int]]
) -> None:
    assert due_steps(make_validations(3, val, lav), 10) == expected


def test_validations_by_time_are_due_after_each_period_of_training() -> None:
    validations, state = make_validations(2, "10min", 0), TrainState(100)
    due = []
    for step, minutes in ((10, 4), (20, 11), (30, 19), (40, 41), (50, 42)):
        state.step, state.seconds = step, 60.0 * minutes
        if validations.due_at(state):
            due.append(minutes)
            state.complete_evaluation()
    assert due == [11, 41]
    assert validations.depend_on_time
    assert validations.step_intervals == []


intervals = st.one_of(st.integers(0, 4), st.integers(1, 40).map("{}steps".format))


@given(st.integers(1, 4), st.integers(1, 12), intervals, intervals, st.sets(st.integers(1, 48)), st.integers(0, 48))
def test_remaining_validations_are_those_that_become_due(
    epochs: int, steps_per_epoch: int, val: int | str, lav: int | str, stops: set[int], step: int
) -> None:
    validations, step = make_validations(epochs, val, lav), min(step, epochs * steps_per_epoch)
    counts = validations.count_remaining(step, steps_per_epoch, seconds=0.0)
    due = due_steps(validations, steps_per_epoch, stops)
    assert counts == {prefix: sum(at >= step for at in due.get(prefix, [])) for prefix in counts}


# Trainings.


@keras.saving.register_keras_serializable("tests")
class NoisyInTraining(keras.Layer):
    """Draws noise in inference too, as recurrent layers draw their dropout, but adds it in training only."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, x: Any, training: bool = False) -> Any:
        noise = keras.random.normal(keras.ops.shape(x), 0.0, 0.01, seed=self.seed_generator)
        return x + keras.ops.cast(noise, x.dtype) if training else x


class DrawsInInference(Line):
    """Batch normalization, and a layer that advances its generator in inference too."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4, name="hidden")(inputs["x"]))
        hidden = NoisyInTraining()(hidden)
        return {"sum": keras.layers.Dense(1, name="add", dtype="float32")(hidden)[:, 0]}


def within(folder: Path | None, **changes: Any) -> Small:
    """Return a training with much state that is validated every 5 steps; an epoch has 12."""
    trainer = {"val_every_n": "5steps", "checkpoint_every": "4steps", "keep_checkpoints": 100, "calc_ema": 0.9}
    trainer |= {"sanity_check": False}  # half of the time
    settings: dict[str, Any] = {
        "data": Points(processors=[Noise()]),
        "model": DrawsInInference(),
        "learning_rate": ReduceOnPlateau(lr=0.01, patience=2, min_delta=10.0),
        "early_stopping": EarlyStopping(n_to_go=50, monitor="val_loss", mode="max"),  # few are exported as the best
        **changes,
    }
    return small(folder, **{**settings, "trainer": {**trainer, **changes.get("trainer", {})}})


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide an uninterrupted run."""
    run = tmp_path_factory.mktemp("within") / "run"
    train(within(run))
    return run


def rows_of(run: Path) -> list[dict[str, float]]:
    return read_history(OutputDir(run).history)


def test_history_has_a_row_per_epoch_and_per_validation_with_its_step(straight: Path) -> None:
    rows = rows_of(straight)
    assert [row["step"] for row in rows] == [5, 10, 12, 15, 20, 24, 25, 30, 35, 36]
    assert [row["epoch"] for row in rows] == [step / STEPS for step in (5, 10, 12, 15, 20, 24, 25, 30, 35, 36)]
    assert [row["step"] for row in rows if "val_loss" in row] == [5, 10, 15, 20, 25, 30, 35, 36]
    assert all({"loss", "error", "lr", "seconds"} <= set(row) for row in rows)
    assert (straight / "history.csv").read_text().splitlines()[3].startswith("1,12,")
    log = (straight / "train.log").read_text()
    assert "epoch 0.417/3 (step 5): loss" in log
    assert "epoch 1/3: loss" in log


def test_best_model_is_that_of_any_validation(straight: Path) -> None:
    rows = [row for row in rows_of(straight) if "val_loss" in row]
    best = max(rows, key=lambda row: row["val_loss"])
    saved = read_last_state(straight).state.selection.best
    assert (saved.epoch, saved.step, saved.value) == (best["epoch"], best["step"], best["val_loss"])
    # Reduced after every second validation without an improvement by 10.
    assert [f"{row['lr']:.0e}" for row in rows[:6]] == ["1e-02"] * 3 + ["1e-03"] * 2 + ["1e-04"]


@pytest.mark.parametrize("steps_per_execution", [1, slow(3), slow(7)])
def test_results_do_not_depend_on_the_steps_per_execution(
    steps_per_execution: int, straight: Path, tmp_path: Path
) -> None:
    train(within(tmp_path / "run", trainer={"steps_per_execution": steps_per_execution}))
    assert differences(straight, tmp_path / "run") == []


@pytest.mark.slow
def test_validation_leaves_no_trace_in_the_training(straight: Path, tmp_path: Path) -> None:
    unaffected = {"learning_rate": Constant(lr=0.01), "early_stopping": EarlyStopping()}
    train(within(tmp_path / "validated", **unaffected))
    train(within(tmp_path / "not", **unaffected, trainer={"val_every_n": 0}))
    one, other = (read_last_state(tmp_path / name).arrays for name in ("validated", "not"))
    assert {name: array.tobytes() for name, array in one.items()} == {n: a.tobytes() for n, a in other.items()}
    trained = [
        [{name: row[name] for name in ("epoch", "loss", "error", "lr")} for row in rows_of(tmp_path / run)]
        for run in ("validated", "not")
    ]
    assert [row for row in trained[0] if row["epoch"] in (1, 2, 3)] == trained[1]


@pytest.mark.parametrize("position", [Position(0, 4), slow(Position(1, 4)), slow(Position(1, 8)), slow(Position(2, 4))])
def test_a_run_that_was_killed_ends_with_the_same_bits(straight: Path, tmp_path: Path, position: Position) -> None:
    copy = copy_as_killed(straight, tmp_path / "copy", position)
    train(within(copy), Resume())
    assert differences(straight, copy) == []


def test_checkpoints_at_the_step_of_a_validation_include_it(straight: Path) -> None:
    checkpoint = next(c for c in list_checkpoints(OutputDir(straight).checkpoints) if c.position == Position(1, 8))
    state = checkpoint.read().state
    assert [row["step"] for row in state.history][-1] == 20
    assert (state.evaluated_step, state.metrics) == (8, None)


class FailsInValidation(StopsInValidation):
    """Raises in its n-th validation."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        met = int(self.marker.read_text()) if self.marker.exists() else 0
        self.marker.write_text(str(met + 1))
        if met == self.times:
            raise OSError("the service is away")
        return Largest.evaluate(self, samples)


@pytest.mark.parametrize(
    ("evaluator", "times", "position"),
    [
        (StopsInValidation, 1, Position(0, 10)),
        slow(FailsInValidation, 3, Position(1, 8)),
        slow(StopsInValidation, 7, Position(2, 12)),
        slow(FailsInValidation, 0, Position(0, 5)),
    ],
)
@pytest.mark.parametrize("precision", ["float32", slow("mixed_float16")])
def test_an_interrupted_validation_is_repeated_after_the_same_steps(
    evaluator: type[StopsInValidation], times: int, position: Position, precision: str, straight: Path, tmp_path: Path
) -> None:
    run, trainer = tmp_path / "run", {"precision": precision}
    if precision != "float32":
        straight = tmp_path / "straight"
        train(within(straight, trainer=trainer))
    with pytest.raises((Interrupted, OSError)):
        train(within(run, evaluator=evaluator(marker=tmp_path / "marker", times=times), trainer=trainer))
    assert list_checkpoints(OutputDir(run).checkpoints)[-1].position == position
    train(within(run, trainer=trainer), Resume())
    assert differences(straight, run) == []


@pytest.mark.slow
def test_early_stopping_ends_the_training_within_an_epoch(tmp_path: Path) -> None:
    never = EarlyStopping(n_to_go=2, min_delta=100.0, monitor="val_loss", mode="max")
    result = train(within(tmp_path / "run", early_stopping=never, trainer={"lav_every_n": 1}))
    assert [row["step"] for row in result.history] == [5, 10, 12, 15]
    assert "lav_loss" in result.history[-1]
    assert result.stopped_early == "val_loss did not improve by more than 100 in 2 checks (best: epoch 0.417 (step 5))"
    assert list_checkpoints(OutputDir(tmp_path / "run").checkpoints)[-1].position == Position(1, 3)
    train(within(tmp_path / "run", trainer={"epochs": 2}), Resume())
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [5, 10, 12, 15, 20, 24]


@pytest.mark.slow
def test_the_interval_can_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(within(run, evaluator=StopsInValidation(marker=tmp_path / "marker", times=2)))
    train(within(run, trainer={"val_every_n": "4steps"}), Resume())
    # It was interrupted in the validation of step 15, which is not a multiple of 4.
    assert [row["step"] for row in rows_of(run) if "val_loss" in row] == [5, 10, 16, 20, 24, 28, 32, 36]


@pytest.mark.slow
def test_another_batch_size_keeps_the_fraction_of_an_epoch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(within(run, evaluator=StopsInValidation(marker=tmp_path / "marker", times=1)))
    scenario = within(run)
    scenario = dataclasses.replace(scenario, train=dataclasses.replace(scenario.train, batch_size=16))
    train(scenario, Resume())
    rows = rows_of(run)
    assert [row["step"] for row in rows] == [5, 5, 6, 10, 12, 15, 18]
    assert [round(row["epoch"], 2) for row in rows] == [0.42, 0.83, 1, 1.67, 2, 2.5, 3]
