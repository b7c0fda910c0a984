"""Results in one place, checkpoints in another: --trainer.checkpoint_dir."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from batches import make_fake_batch
from conftest import Run

from tfaip_like import UsageError
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._training.initialization.saved_weights import find_weights_file
from tfaip_like._utils.json_files import write_json
from tfaip_like.experiments._reset import reset


def test_checkpoints_are_below_the_other_folder_under_the_path_of_the_run(tmp_path: Path) -> None:
    run, scratch = OutputDir(tmp_path / "home" / "run"), tmp_path / "scratch"
    run.path.mkdir(parents=True)
    run.link_checkpoints_to(scratch)
    assert run.checkpoints.is_symlink()
    assert run.checkpoints.resolve() == scratch / tmp_path.relative_to("/") / "home" / "run"
    assert not run.has_run()
    (run.checkpoints / "epoch_1").mkdir()
    assert run.has_run()
    shutil.rmtree(scratch)  # as scratch disks are emptied
    run.link_checkpoints_to(scratch)
    assert list(run.checkpoints.iterdir()) == []


def test_checkpoints_of_a_moved_run_still_belong_to_it(tmp_path: Path) -> None:
    run, moved, scratch = OutputDir(tmp_path / "run"), OutputDir(tmp_path / "moved"), tmp_path / "scratch"
    run.path.mkdir()
    run.link_checkpoints_to(scratch)
    (run.checkpoints / "epoch_1").mkdir()
    run.path.rename(moved.path)
    run.path.mkdir()
    run.link_checkpoints_to(scratch)
    assert run.checkpoints.resolve().name == "run_2"
    moved.link_checkpoints_to(scratch)
    assert [path.name for path in moved.checkpoints.iterdir()] == ["epoch_1"]


def test_a_link_to_a_disk_that_is_missing_is_named_with_its_target(tmp_path: Path, quick_run: Run) -> None:
    run, scratch = OutputDir(tmp_path / "run"), tmp_path / "scratch"
    run.path.mkdir()
    run.link_checkpoints_to(scratch)
    target = run.checkpoints.readlink()
    shutil.rmtree(scratch)
    run.history.write_text("epoch\n1\n")
    message = f"{run.checkpoints}: broken link to {target}; check that its file system is mounted"
    with pytest.raises(UsageError, match=message):
        run.link_checkpoints_to(scratch)
    with pytest.raises(UsageError, match=message):
        list_checkpoints(run.checkpoints)
    for place in (run.path, run.checkpoints, run.checkpoints / "epoch_0001"):
        with pytest.raises(UsageError, match=message):
            find_weights_file(place)
    for command in ("lav-scenario", "predict-scenario"):
        done = quick_run(command, run.checkpoints / "epoch_0001")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not scratch.exists()


def test_existing_checkpoints_stay_where_they_are(tmp_path: Path) -> None:
    run = OutputDir(tmp_path / "run")
    (run.checkpoints / "epoch_1").mkdir(parents=True)
    run.link_checkpoints_to(tmp_path / "scratch")
    assert not run.checkpoints.is_symlink()
    assert not (tmp_path / "scratch").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = OutputDir(tmp_path / "run")
    run.path.mkdir()
    with pytest.raises(UsageError, match=r"^--trainer.checkpoint_dir .*/file: cannot be written: Not a directory$"):
        run.link_checkpoints_to(tmp_path / "file")


@pytest.mark.parametrize("delete", [True, False])
def test_resetting_a_run_moves_its_checkpoints_on_another_disk(tmp_path: Path, delete: bool) -> None:
    batch = make_fake_batch(tmp_path, "  one: {}\n")
    run, scratch = batch.run_dir("one"), tmp_path / "scratch"
    run.path.mkdir()
    run.link_checkpoints_to(scratch)
    (run.checkpoints / "epoch_1").mkdir()
    write_json(run.run, {"format_version": 1, "status": "done"})
    reset(batch, ["one"], delete=delete)
    found = [path.parent for path in scratch.rglob("epoch_1")]
    assert found == ([] if delete else [(batch.path / "reset" / "1" / "runs" / "one" / "checkpoints").resolve()])


@pytest.mark.slow
def test_a_training_resumes_from_checkpoints_on_another_disk(quick_run: Run, small_disk: Path, tmp_path: Path) -> None:
    words = ("--trainer.output_dir", "run", "--trainer.checkpoint_dir", small_disk, "--trainer.keep_every_n", 1)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = quick_run("train-scenario", "small", *words, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    run = OutputDir(tmp_path / "run")
    assert run.checkpoints.resolve() == small_disk / tmp_path.relative_to("/") / "run"
    assert {path.name for path in run.checkpoints.iterdir()} >= {"epoch_0001", "epoch_0002", "epoch_0003"}
    words = ("--resume.epoch", 1, "--trainer.epochs", 2, "--trainer.checkpoint_dir", "other")
    done = quick_run("resume-training", "run", *words, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    place = small_disk / tmp_path.relative_to("/") / "run"
    assert f"--trainer.checkpoint_dir other has no effect: the checkpoints of this run are in {place}" in done.stderr
    # The exports of abandoned epochs were moved to the other disk.
    assert (run.checkpoints / "superseded" / "export" / "serve").is_dir()
    assert run.export.is_dir()
