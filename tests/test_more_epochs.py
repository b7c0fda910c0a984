"""Runs of a batch that are trained further than was planned, or again from their beginning."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from batches import events, experiments, make_fake_batch, states
from conftest import Run, fill

from tfaip_like import UsageError
from tfaip_like._runs import reader
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._epoch_extension import plan_extensions
from tfaip_like.experiments._reset import reset
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments.launchers._tickets import Ticket, make_ticket, write_ticket


def write_trained_epochs(
    batch: Batch, name: str, count: int, status: str = "done", checkpoints: tuple[int, ...] = ()
) -> None:
    """Leave what a run leaves that was trained for some epochs."""
    run = batch.run_dir(name)
    run.path.mkdir(parents=True)
    run.run.write_text(json.dumps({"format_version": 1, "status": status}))
    run.history.write_text("epoch,loss,seconds\n" + "".join(f"{epoch},0.5,1\n" for epoch in range(1, count + 1)))
    for epoch in checkpoints:
        (run.checkpoints / f"epoch_{epoch:04d}").mkdir(parents=True)


def flags_of(batch: Batch, name: str) -> list[str]:
    files = (batch.jobs_dir / f"{name}.flags", batch.jobs_dir / f"{name}.once")
    return [word for file in files if file.exists() for word in file.read_text().split()]


def test_epochs_are_added_to_those_that_are_done_and_once_only(tmp_path: Path, quick_run: Run) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 20}\n  cut: {trainer.epochs: 20}\n", tenths=0)
    write_trained_epochs(batch, "wide", 20)
    write_trained_epochs(batch, "cut", 12, "stopped", checkpoints=(5, 12))
    dry = quick_run("experiments", "submit", batch.path, "--additional_epochs", "10", "--dry_run")
    assert dry.stdout == f"2 runs of {batch.path} would be submitted\n"
    assert (flags_of(batch, "wide"), batch.read_index().runs[0].epochs) == ([], 20)
    for _ in range(2):  # a person who does not know whether the first one was killed
        status = read_status(batch)
        more = plan_extensions(batch, status, ["wide", "cut"], 10, None)
        more.write(batch)
    assert [run.epochs for run in batch.read_index().runs] == [30, 22]
    assert flags_of(batch, "wide") == ["--trainer.epochs", "30"]
    assert quick_run("experiments", "submit", batch.path, "wide", "--additional_epochs", "10", "--wait").returncode == 0
    assert events(batch) == ["begin wide", "end wide"]


def test_a_further_training_whose_machine_went_down_as_it_began_is_not_done(tmp_path: Path, quick_run: Run) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 20}\n", tenths=0)
    write_trained_epochs(batch, "wide", 20)
    plan_extensions(batch, read_status(batch), ["wide"], 10, None).write(batch)
    now = time.time()
    write_ticket(batch, "wide", Ticket("running", submitted=now + 1, started=now + 1))
    (run,) = read_status(batch).runs
    assert (run.state, run.reason) == ("failed", "killed before the training started")
    assert quick_run("experiments", "submit", batch.path, "--wait").returncode == 0
    assert events(batch) == ["begin wide", "end wide"]


def test_active_runs_are_not_extended_and_are_named(tmp_path: Path, quick_run: Run) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 20}\n  cut: {trainer.epochs: 20}\n", tenths=0)
    write_trained_epochs(batch, "wide", 20)
    write_ticket(batch, "cut", make_ticket())
    done = quick_run("experiments", "submit", batch.path, "--additional_epochs", "10", "--dry_run")
    assert "(no additional epochs for active runs: cut; repeat --additional_epochs after they end)" in done.stdout


def test_a_reset_that_a_full_disk_rejects_moves_nothing(small_disk: Path, quick_run: Run) -> None:
    batch = make_fake_batch(small_disk, "  wide: {trainer.epochs: 2}\n")
    write_trained_epochs(batch, "wide", 2)
    filler = fill(small_disk)
    rejected = quick_run("experiments", "reset", batch.path, "wide")
    assert rejected.returncode == 1
    assert rejected.stderr.endswith("\nFree some space, then run the same command again.\n")
    assert batch.run_dir("wide").history.exists()
    filler.unlink()
    assert quick_run("experiments", "reset", batch.path, "wide").returncode == 0
    assert states(batch) == {"wide": "new"}


def test_runs_can_restart_from_an_earlier_epoch_with_a_checkpoint(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 20}\n")
    write_trained_epochs(batch, "wide", 20, checkpoints=(5, 20))
    with pytest.raises(UsageError, match="--previous_epochs 7: no checkpoint of this epoch in wide"):
        plan_extensions(batch, read_status(batch), ["wide"], 10, 7)
    plan_extensions(batch, read_status(batch), ["wide"], 10, 5).write(batch)
    assert batch.read_index().runs[0].epochs == 15
    assert flags_of(batch, "wide") == ["--trainer.epochs", "15", "--resume.epoch", "5"]


def test_runs_that_would_not_be_trained_are_named(tmp_path: Path, quick_run: Run) -> None:
    batch = make_fake_batch(tmp_path, "  new: {}\n  early: {}\n")
    write_trained_epochs(batch, "early", 2)
    batch.run_dir("early").summary.write_text(json.dumps({"format_version": 1, "stopped_early": "no improvement"}))
    rejected = quick_run("experiments", "submit", batch.path, "--additional_epochs", "10")
    assert rejected.returncode == 2
    assert rejected.stderr == (
        "experiments: --additional_epochs: no completed epoch in new; omit this flag, or select other runs\n"
    )
    done = quick_run("experiments", "submit", batch.path, "early", "--additional_epochs", "10")
    assert done.stdout.splitlines()[1].startswith(
        "(skipped, because they stopped early: early; use resume-training with other"
    )
    needs = quick_run("experiments", "submit", batch.path, "--previous_epochs", "10")
    assert "previous_epochs 10: requires --additional_epochs" in needs.stderr


@pytest.mark.slow
def test_a_reset_run_is_new_and_its_results_are_archived(tmp_path: Path, quick_run: Run) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 2, trainer.epochs: 20}\n", tenths=0)
    assert experiments(tmp_path, "submit", batch.path, "--wait").returncode == 0
    plan_extensions(batch, read_status(batch), [], 10, None)
    (batch.jobs_dir / "wide.01.flags").write_text("--trainer.epochs\n30\n")
    for number in (1, 2):
        done = quick_run("experiments", "reset", batch.path, "wide.01")
        assert done.stdout == (
            f"1 run of {batch.path} reset, files moved to {batch.path}/reset; "
            f"to train again: experiments submit {batch.path}\n"
        )
        assert (batch.path / "reset" / str(number) / "runs" / "wide.01" / "run.json").exists()
        assert states(batch) == {"wide.01": "new", "wide.02": "done"}
        assert flags_of(batch, "wide.01") == []
        assert quick_run("experiments", "submit", batch.path, "--wait").returncode == 0
        assert events(batch).count("begin wide.01") == number + 1
    assert [run.name for run in reset(batch, ["wide.01"], delete=True)] == ["wide.01"]
    assert not batch.run_dir("wide.01").path.exists()
    assert not (batch.path / "reset" / "3").exists()
    with pytest.raises(UsageError, match="missing argument RUN"):
        reset(batch, [])


def test_an_active_run_is_not_reset(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n", tenths=0)
    (batch.path / "hold").touch()
    experiments(tmp_path, "submit", batch.path)
    with pytest.raises(UsageError, match="active runs: wide; stop them with `experiments cancel`"):
        reset(batch, ["wide"])
    (batch.path / "hold").unlink()


@pytest.mark.slow
def test_a_trained_run_is_trained_further_and_from_an_earlier_epoch(tmp_path: Path) -> None:
    from test_batch_training import generated

    batch = generated(tmp_path, "  wide: {trainer.epochs: 2, trainer.keep_every_n: 1}\n")
    run = batch.run_dir("wide")
    assert experiments(tmp_path, "submit", batch.path, "--wait").returncode == 0
    assert experiments(tmp_path, "submit", batch.path, "--additional_epochs", "1", "--wait").returncode == 0
    [shown] = json.loads(experiments(tmp_path, "show", "--json").stdout)
    assert (shown["runs"][0]["epoch"], shown["runs"][0]["epochs"]) == (3, 3)
    more = ("--additional_epochs", "3", "--previous_epochs", "1")
    assert experiments(tmp_path, "submit", batch.path, *more, "--wait").returncode == 0
    [shown] = json.loads(experiments(tmp_path, "show", "--json").stdout)
    assert (shown["runs"][0]["epoch"], shown["runs"][0]["epochs"]) == (4, 4)
    # Started again, as after a requeue, it does not go back again.
    experiments(tmp_path, "submit", batch.path, "--additional_epochs", "1", "--wait")
    after = [resumption["after"] for resumption in reader.Run(run).info["resumed"]]
    assert after == ["the end of epoch 2", "the end of epoch 1", "the end of epoch 4"]
