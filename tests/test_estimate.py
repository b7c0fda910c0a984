"""What runs of a batch will take, by calibrations of some of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from batches import make_fake_batch

from tfaip_like import UsageError
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._resources.calibration import Calibration, RemainingWork, format_duration, make_setup_key
from tfaip_like.experiments._resources.estimate import (
    Estimates,
    choose_runs_to_calibrate,
    estimate,
    memory_limit,
    read_calibrations,
    remove_calibrations,
    time_limit,
)
from tfaip_like.experiments.launchers import ResourceRequest
from tfaip_like.experiments.launchers._jobs import ResourceLimits, group_into_array_jobs, group_into_tasks
from tfaip_like.settings._interval import Interval, parse_interval

REQUEST = ResourceRequest("", "")


def run_of(name: str, epochs: int = 5, task: int | None = None, **flags: str) -> BatchRun:
    named = {flag.replace("__", "."): (word,) for flag, word in flags.items()}
    return BatchRun(name, name.partition(".")[0], named, epochs, "val_loss", task=task)


def calibration_of(run: BatchRun, size: int = 1, memory: float = 850.0, of_samples: float = 0.4) -> Calibration:
    return Calibration(
        name=run.name,
        setup=make_setup_key(run),
        size=size,
        samples=49_000,
        measured=4_000,
        start=10.0,
        of_samples=of_samples,
        after_epoch=2.0,
        memory=memory,
    )


def test_time_is_that_of_start_samples_and_validations() -> None:
    calibration = calibration_of(run_of("wide"))
    work = RemainingWork(epochs=30, samples=None, val_interval=Interval(epochs=2))
    assert calibration.estimate_seconds(work) == pytest.approx(10 + 30 * 49_000 * 0.0001 + 15 * 2)
    assert format_duration(calibration.estimate_seconds(work)) == "0:03:07"
    assert calibration.text(work).splitlines() == [
        "wide: measured 10.0 s to start and end, 0.1 ms per sample (4000 samples in 0.40 s), 2.00 s to validate and "
        "save, 850 MB",
        "  10.0 s + 30 epochs x 49000 samples x 0.1 ms + 15 x 2.00 s = 0:03:07",
    ]
    work = RemainingWork(1, samples=1000, val_interval=Interval(epochs=1))
    assert calibration.estimate_seconds(work) == pytest.approx(10 + 0.1 + 2)


@pytest.mark.parametrize(
    ("interval", "validations"), [("500steps", 59), ("49steps", 600), ("30s", 5), ("10min", 1), (0, 30), (7, 5)]
)
def test_validations_by_steps_and_time_count(interval: int | str, validations: int) -> None:
    calibration = calibration_of(run_of("wide"))  # 147 s for 30 epochs of 980 steps
    work = RemainingWork(30, None, parse_interval(interval), samples_per_step=50)
    assert calibration.estimate_seconds(work) == pytest.approx(10 + 147 + 2 * validations)


@pytest.mark.parametrize(
    ("seconds", "limit"), [(187, "0:08:00"), (3600, "1:21:00"), (7200, "2:40:00"), (86_400, "31:40:00")]
)
def test_time_limits_have_a_margin_and_are_rounded_so_that_few_differ(seconds: float, limit: str) -> None:
    assert time_limit(seconds, save_seconds=120) == limit


def test_memory_has_a_margin_and_is_rounded() -> None:
    assert memory_limit(850) == "1400M"


def test_each_set_up_requests_what_it_needs(tmp_path: Path) -> None:
    batch = make_fake_batch(
        tmp_path, "  short: {trainer.epochs: 10, repeat: 3}\n  long: {trainer.epochs: 1000}\n  large: {}\n"
    )
    runs = batch.read_index().runs
    short, long, large = runs[0], runs[3], runs[4]
    kept = [calibration_of(short), calibration_of(long), calibration_of(large, memory=9000)]
    estimates = Estimates(batch, kept, save_seconds=120)
    jobs = group_into_array_jobs(group_into_tasks(runs), estimates.limits, REQUEST)
    assert [(job.request.time, job.request.memory, len(job.tasks)) for job in jobs] == [
        ("0:05:00", "1400M", 3),
        ("2:40:00", "1400M", 1),
        ("0:04:00", "11900M", 1),
    ]
    lines = estimates.text(runs, jobs).splitlines()
    assert "--time 0:05:00 --mem 1400M  for 3 tasks: short.01, short.02, short.03" in lines
    assert "--time 2:40:00 --mem 1400M  for 1 task: long" in lines


def test_completed_epochs_are_excluded_from_the_estimate(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  long: {trainer.epochs: 1000}\n")
    (run,) = batch.read_index().runs
    assert Estimates(batch, [calibration_of(run)], 120, {"long": 990}).limits((run,)) == ResourceLimits(
        "0:05:00", "1400M"
    )


def test_runs_of_a_task_take_their_time_one_after_another(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  a: {trainer.epochs: 100}\n  b: {trainer.epochs: 100}\n")
    a, b = batch.read_index().runs
    estimates = Estimates(batch, [calibration_of(a), calibration_of(b, memory=2000)], 120)
    assert estimates.limits((a,)) == ResourceLimits("0:19:00", "1400M")
    assert estimates.limits((a, b)) == ResourceLimits("0:34:00", "2800M")


def test_tasks_are_those_of_the_plan_or_runs_of_a_configuration_by_number() -> None:
    runs = [run_of(f"a.{number}") for number in range(5)] + [run_of("b.1"), run_of("b.2")]
    assert [[run.name for run in task] for task in group_into_tasks(runs, 2)] == [
        ["a.0", "a.1"],
        ["a.2", "a.3"],
        ["a.4"],
        ["b.1", "b.2"],
    ]
    together = [run_of(f"{model}.{task}", task=task) for task in (1, 2) for model in "ab"]
    assert [[run.name for run in task] for task in group_into_tasks([*together, run_of("c")])] == [
        ["a.1", "b.1"],
        ["a.2", "b.2"],
        ["c"],
    ]


def test_the_largest_run_of_each_configuration_is_measured_then_other_set_ups() -> None:
    runs = [
        run_of("wide.01", model__units="8", learning_rate__lr="0.1", trainer__random_seed="9999"),
        run_of("wide.02", model__units="30000", learning_rate__lr="0.01"),
        run_of("wide.03", model__units="30000", learning_rate__lr="0.02", trainer__random_seed="2"),
        run_of("long", epochs=9),
    ]
    assert [run.name for run in choose_runs_to_calibrate(runs)] == ["wide.02", "long", "wide.01"]
    assert make_setup_key(runs[1]) == make_setup_key(runs[2])  # another rate takes no more time
    more = [*runs, run_of("more", epochs=3), run_of("short", epochs=1)]
    assert [run.name for run in choose_runs_to_calibrate(more)] == ["wide.02", "long", "more"]


def test_calibrations_are_reused_unless_a_run_is_larger() -> None:
    small, large = run_of("wide.01", model__units="8"), run_of("wide.02", model__units="300")
    assert choose_runs_to_calibrate([small], [calibration_of(large, size=300)]) == []
    assert choose_runs_to_calibrate([small, large], [calibration_of(small, size=8)]) == [large]


def test_calibrations_are_kept_in_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 2}\n")
    measured: list[str] = []

    def calibrate(batch: Batch, run: BatchRun, check: object) -> Calibration:
        measured.append(run.name)
        return dataclasses.replace(calibration_of(run), host="n1", when="2026-01-01 12:00")

    monkeypatch.setattr("tfaip_like.experiments._resources.estimate.calibrate", calibrate)
    runs = batch.read_index().runs
    first = estimate(batch, runs, 120, {})
    assert estimate(batch, runs[1:], 120, {}) == first
    assert measured == ["wide.01"]
    assert "wide.01: measured (2026-01-01 12:00, on n1) 10.0 s to start" in first.text(runs, [])
    assert estimate(batch, runs, 120, {}, again=True) == first
    assert measured == ["wide.01"] * 2
    remove_calibrations(batch, {"narrow"})
    assert len(read_calibrations(batch)) == 1
    remove_calibrations(batch, {"wide"})
    assert read_calibrations(batch) == []
    (batch.path / "calibrations.json").write_text('{"format_version": 1, "calibrations": [{"name": 3}]}')
    with pytest.raises(UsageError, match=r"calibrations.0.name: expected a string, got 3\nDelete this file"):
        read_calibrations(batch)
