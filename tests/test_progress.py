"""The bar and the time left count validations as well."""

from __future__ import annotations

import io
import logging

import pytest

from tfaip_like._training.progress import OTHER_WORK, Progress, RemainingTimeEstimator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def count_validations(step: int, steps_per_epoch: int, seconds: float) -> dict[str, float]:
    """Return the number of validations, each epoch, and of LAV, after the first and the last."""
    epochs = 3 - max(0, step - 1) // 10
    return {"val_": epochs, "lav_": min(2, epochs) - (epochs == 2)}


def progress_of(stream: io.StringIO) -> tuple[Progress, Clock]:
    """Three epochs of ten steps; LAV after the first and the last, validation after each."""
    progress, clock = Progress(10, 3, count_validations=count_validations, stream=stream), Clock()
    progress._clock, progress._phase_start, progress._last_shown = clock, clock(), clock()
    return progress, clock


def test_time_left_counts_steps_validations_and_the_rest_of_each_epoch() -> None:
    left = RemainingTimeEstimator(10, 3, count_validations)
    assert left.remaining_seconds(0) is None
    left.record_steps(10, 20.0)
    assert left.remaining_seconds(10) == 40.0
    left.record("val_", 5.0)
    left.record("lav_", 7.0)
    left.record(OTHER_WORK, 1.0)
    assert left.remaining_seconds(11) == 38.0 + 2 * 5.0 + 7.0 + 2 * 1.0
    assert left.remaining_seconds(10, ["val_"]) == 40.0 + 2 * 5.0 + 2 * 7.0 + 3 * 1.0
    assert left.remaining_seconds(30, ["val_", "lav_"]) == 1.0


def test_steps_that_compile_count_only_until_there_are_others() -> None:
    left = RemainingTimeEstimator(100, 1)
    left.record_steps(1, 60.0)
    left.record_steps(1, 1.0)
    assert left.remaining_seconds(50) == 50.0


def test_the_progress_bar_shows_validation_with_remaining_time() -> None:
    stream = Terminal()
    progress, clock = progress_of(stream)
    clock.now += 20
    progress.update(10, 1, 0.5)
    with progress.measure_evaluation(1):
        with progress.measure_validation("val_", 20) as set_done:
            clock.now += 0.4
            progress.refresh()
            assert "val" not in stream.getvalue()  # short validations have no bar
            clock.now += 4.6
            set_done(10)
            progress.refresh()
            # Half of it took 5 s: forty seconds of steps, the other half, and the validations of two epochs.
            assert "epoch 1/3, 01:05 left, val  50%|" in stream.getvalue()
            assert "| batch 10/20" in stream.getvalue()
            clock.now += 5
        with progress.measure_validation("lav_"):
            clock.now += 5
        clock.now += 1
    clock.now += 10
    progress.update(20, 2, 0.25)
    # Ten steps of 1 s, two validations of 10 s, one LAV of 5 s, the rest of two epochs.
    assert str(progress._bar).startswith("epoch 2/3, 00:37 left  67%|")  # it draws itself at most ten times a second
    assert str(progress._bar).endswith("| step 20/30, loss 0.25")
    with progress.measure_evaluation(2), progress.measure_validation("val_"):
        clock.now += 4
        progress.refresh()
        assert "epoch 2/3, 00:33 left, val   0%|" in stream.getvalue()
        assert "| batch 0/?" in stream.getvalue()
    progress.close()


def test_a_resumed_run_shows_its_epoch() -> None:
    stream = Terminal()
    Progress(10, 3, done=20, stream=stream).close()
    assert "epoch 3/3  67%|" in stream.getvalue()


def test_without_a_terminal_a_long_validation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress, clock = progress_of(io.StringIO())
    clock.now += 20
    progress.update(10, 1, 0.5)
    with progress.measure_evaluation(1), progress.measure_validation("val_"):
        clock.now += 40
        progress.refresh()
        progress.refresh()
    assert caplog.messages == ["epoch 1/3, step 10/30, validating (val): batch 0/?, 00:40 left"]


def test_outside_of_a_validation_nothing_is_shown_between_steps() -> None:
    stream = Terminal()
    progress, clock = progress_of(stream)
    before = stream.getvalue()
    clock.now += 100
    progress.refresh()
    assert stream.getvalue() == before
