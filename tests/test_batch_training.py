"""Batches of real trainings on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from batches import (
    PLAN,
    command,
    environment,
    experiments,
    make_fake_batch,
    move_while_a_run_starts,
    states,
    wait_until,
)
from conftest import reset_signal_handlers, slow
from stopping import differences

from tfaip_like._runs.reader import Run
from tfaip_like.experiments._batches.batch import Batch


def generated(folder: Path, configurations: str) -> Batch:
    (folder / "plan.yaml").write_text(PLAN + configurations)
    assert experiments(folder, "generate", "plan.yaml").returncode == 0
    return Batch(folder / "batches" / "plan" / "version_1")


@pytest.mark.slow
def test_a_batch_trains_and_is_shown_and_compared(tmp_path: Path) -> None:
    batch = generated(
        tmp_path, "  bad: {data.fails: true}\n  good: {model.dropout: 0.0}\n  better: {model.dropout: 0.2}\n"
    )
    assert "none of these runs has started" in experiments(tmp_path, "compare", batch.path).stderr
    assert experiments(tmp_path, "submit", batch.path, "--jobs", "2", "--wait").returncode == 1
    [shown] = json.loads(experiments(tmp_path, "show", "--json").stdout)
    bad, good, better = shown["runs"]
    assert (bad["state"], bad["reason"]) == ("failed", "ValueError: these points are bad")
    assert (good["state"], good["epoch"], good["epochs"], good["monitor"]) == ("done", 2, 2, "val_loss")
    summary = json.loads((batch.run_dir("better").summary).read_text())
    assert better["best"] == summary["best"]["value"]
    assert Run(batch.run_dir("good")).info["git_commit"] == batch.read_index().git_commit
    compared = experiments(tmp_path, "compare", batch.path, "--html", "page.html")
    assert compared.returncode == 0, compared.stderr
    assert "model.dropout" in compared.stdout
    assert "(1 run omitted: not started)" in compared.stderr
    assert "better" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_runs_that_were_killed_resume_and_end_with_the_same_bits(tmp_path: Path) -> None:
    settings = "{data.processors: Pause, trainer.random_seed: 7, trainer.epochs: 8}"
    batch = generated(tmp_path, f"  cut: {settings}\n  whole: {settings}\n")
    experiments(tmp_path, "submit", batch.path, "cut")
    wait_until(lambda: list(batch.run_dir("cut").checkpoints.glob("epoch_0003")))
    os.killpg(int(Run(batch.run_dir("cut")).info["pid"]), signal.SIGKILL)
    wait_until(lambda: states(batch)["cut"] == "failed")
    assert experiments(tmp_path, "submit", batch.path, "--wait").returncode == 0
    assert Run(batch.run_dir("cut")).info["resumed"]
    assert differences(batch.run_dir("cut").path, batch.run_dir("whole").path) == []


@pytest.mark.slow
def test_a_run_that_is_starting_does_not_recreate_its_batch_that_was_moved(tmp_path: Path) -> None:
    assert not move_while_a_run_starts(tmp_path).path.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), slow(signal.SIGHUP, 143), slow(signal.SIGINT, 130)]
)
def test_an_interrupted_calibration_leaves_no_files(number: signal.Signals, code: int, tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        command("submit", batch.path, "--slurm", "--dry_run"),
        cwd=tmp_path,
        env={**environment(), "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=reset_signal_handlers,
    )
    wait_until(lambda: list(temporary.rglob("log")))
    process.send_signal(number)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == code
    assert printed.splitlines()[1:] == ["Stopping the calibration ...", f"experiments: stopped by {number.name}"]
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_calibration_measures_a_run(tmp_path: Path) -> None:
    batch = generated(tmp_path, "  wide: {trainer.epochs: 50}\n  other: {trainer.epochs: 40}\n")
    done = experiments(tmp_path, "submit", batch.path, "wide", "--slurm", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "Calibrating wide: 3 epochs of 400 samples" in done.stderr
    assert " + 50 epochs x 100 samples x " in done.stdout
    assert "#SBATCH --time=0:0" in done.stdout
    assert not batch.run_dir("wide").path.exists()


@pytest.mark.slow
def test_a_failed_calibration_reports_the_reason(tmp_path: Path) -> None:
    batch = generated(tmp_path, "  bad: {data.fails: true}\n")
    done = experiments(tmp_path, "submit", batch.path, "--slurm", "--dry_run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == ("experiments: calibration of bad failed: ValueError: these points are bad")
    assert done.stderr.endswith("fix the error, or pass --time and --mem explicitly\n")
