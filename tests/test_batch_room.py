"""Room on the disk for all runs of a batch, looked at before any of them is submitted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from batches import make_fake_batch, states
from conftest import Run

from tfaip_like import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._resources.calibration import Calibration, make_setup_key
from tfaip_like.experiments._resources.disk_space import check_disk_space
from tfaip_like.experiments._status.batch_status import read_status


def calibrated(batch: Batch, disk: float, checkpoint: float) -> None:
    """Leave a calibration of its first run, as a submission does."""
    run = batch.read_index().runs[0]
    measured = Calibration(run.name, make_setup_key(run), 1, 100, 100, 1.0, 1.0, 1.0, 500.0, disk, checkpoint)
    (batch.path / "calibrations.json").write_text(
        json.dumps({"format_version": 1, "calibrations": [dataclasses.asdict(measured)]})
    )


def check_space(batch: Batch) -> None:
    check_disk_space(batch, batch.read_index().runs, read_status(batch), allow_calibration=False)


def test_runs_that_exceed_the_disk_space_are_rejected_before_the_first_one(small_disk: Path, quick_run: Run) -> None:
    batch = make_fake_batch(small_disk, "  wide: {repeat: 4}\n", tenths=0)
    calibrated(batch, disk=0.4, checkpoint=0.2)
    check_space(batch)  # 4 x (0.4 MB + 4 checkpoints) fits
    calibrated(batch, disk=0.5, checkpoint=0.5)
    rejected = quick_run("experiments", "submit", batch.path)
    assert rejected.returncode == 2
    assert rejected.stderr.startswith(
        f"experiments: {batch.path}/runs: not enough disk space: 4 runs will need about 10 MB, "
    )
    assert set(states(batch).values()) == {"new"}
    assert quick_run("experiments", "submit", batch.path, "--check_space", "false", "--wait").returncode == 0


def test_sizes_of_finished_runs_take_precedence_over_calibrations(small_disk: Path) -> None:
    batch = make_fake_batch(small_disk, "  wide: {repeat: 4}\n")
    calibrated(batch, disk=0.001, checkpoint=0.001)
    run = batch.run_dir("wide.01")
    (run.checkpoints / "epoch_0001").mkdir(parents=True)
    (run.checkpoints / "epoch_0001" / "variables.npz").write_bytes(bytes(3_000_000))
    check_space(batch)
    run.run.write_text(json.dumps({"format_version": 1, "status": "done"}))
    with pytest.raises(UsageError, match="4 runs will need about 9 MB, "):
        check_space(batch)


def test_free_space_of_each_disk_is_checked(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    batch = make_fake_batch(tmp_path / "home", f"  wide: {{repeat: 4, trainer.checkpoint_dir: {small_disk}}}\n")
    calibrated(batch, disk=3.0, checkpoint=0.1)
    check_space(batch)
    calibrated(batch, disk=0.1, checkpoint=3.0)
    with pytest.raises(UsageError, match=f"{small_disk}: not enough disk space: 4 runs will need about 48 MB, "):
        check_space(batch)


def test_stored_checkpoints_count_towards_the_space(small_disk: Path) -> None:
    batch = make_fake_batch(small_disk, "  wide: {trainer.epochs: 100, trainer.keep_every_n: 1}\n")
    calibrated(batch, disk=0.1, checkpoint=0.1)
    with pytest.raises(UsageError, match="1 run will need about 10.5 MB, "):
        check_space(batch)
