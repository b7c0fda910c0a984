"""A disk that is full while a training writes what is not its state: nothing is lost, nothing ends."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from conftest import fill
from small import small
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tfaip_like._cli.command import format_unexpected_error
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.loggers.logged_values import LoggedEpoch
from tfaip_like._training.loggers.training_loggers import TrainingLoggers
from tfaip_like._utils.files import atomic_write_text, is_disk_full_error
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import BadSample


def test_the_list_of_bad_samples_is_written_when_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    samples = BadSampleLog(small_disk / "bad_samples.csv", limit=100)
    samples.record([BadSample(0, "sample 0", "why")])
    filler = fill(small_disk)
    for number in range(1, 5):
        samples.record([BadSample(number, f"sample {number}", "why" * 1000)])
    assert caplog.text.count("No space left on device; retrying later") == 1
    assert samples.file is not None
    assert len(samples.file.read_text().splitlines()) == 2
    filler.unlink()
    samples.log_summary()
    assert len(samples.file.read_text().splitlines()) == 6


def test_events_are_whole_after_a_full_disk(small_disk: Path) -> None:
    values = {f"value_{number}_{'long' * 20}": 1.0 for number in range(200)}
    second = LoggedEpoch(2, 24, {"epoch": 2.0, "val_loss": 3.0, **values})
    with TrainingLoggers(small(), OutputDir(small_disk), ["val_"], InterruptFlag()) as loggers:
        loggers.log(LoggedEpoch(1, 12, {"epoch": 1.0, "loss": 1.0, "val_loss": 2.0}))
        filler = fill(small_disk)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left") as raised:
                loggers.log(second)
            assert is_disk_full_error(raised.value)
        filler.unlink()
        for _ in range(2):  # as when something behind it failed
            loggers.log(second)
    for kind, count in (("val", 2), ("train", 203)):
        (file,) = (small_disk / "tensorboard" / kind).iterdir()
        events = [event for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]
        assert sum(len(event.summary.value) for event in events) == count


def test_a_full_disk_is_reported_with_the_file_that_it_has_no_room_for(small_disk: Path) -> None:
    (small_disk / "source").write_bytes(bytes(5_000_000))
    with pytest.raises(OSError, match="No space left") as full:
        atomic_write_text(small_disk / "file", "x" * 9_000_000)
    again = "Free some space, then run the same command again."
    assert (
        format_unexpected_error(full.value.with_traceback(None))
        == f"No space left on device: {small_disk}/file\n{again}"
    )
    assert [path.name for path in small_disk.iterdir()] == ["source"]
    with pytest.raises(OSError, match="No space left") as full:
        shutil.copyfile(small_disk / "source", small_disk / "copy")
    assert (
        format_unexpected_error(full.value.with_traceback(None))
        == f"No space left on device: {small_disk}/copy\n{again}"
    )
