"""The local queue: a limited number at a time, none twice, none lost after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from batches import command, environment, events, experiments, make_fake_batch, states, wait_until
from conftest import fill

from tfaip_like import UsageError
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._resources.machine import check_gpus, count_gpus
from tfaip_like.experiments.launchers._local_scheduler import (
    is_run_alive,
    is_scheduler_running,
    make_run_environment,
)

SIX = "  wide: {repeat: 6}\n"


def scheduler_of(batch: Batch) -> int:
    """Return the process ID of the scheduler of a batch."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any("experiments.launchers._local_scheduler" in word for word in words) and str(batch.path) in words:
            return process.pid
    raise AssertionError("no scheduler found")


def max_parallel_runs(batch: Batch) -> int:
    """Return the maximum number of runs that were active at the same time."""
    now = most = 0
    for event in events(batch):
        now += 1 if event.startswith("begin") else -1
        most = max(most, now)
    return most


def test_two_concurrent_submits_start_no_run_twice_and_keep_to_the_number_of_jobs(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, SIX)
    words = command("submit", batch.path, "--jobs", "2", "--wait")
    submits = [
        subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.wait(240) for process in submits] == [0, 0, 0]
    wait_until(lambda: not is_scheduler_running(batch))
    assert sorted(event for event in events(batch) if event.startswith("begin")) == [
        f"begin wide.{number:02}" for number in range(1, 7)
    ]
    assert max_parallel_runs(batch) == 2
    assert set(states(batch).values()) == {"done"}
    again = experiments(tmp_path, "submit", batch.path)
    assert again.stdout == f"0 runs of {batch.path} submitted (6 done already)\n"


@pytest.fixture
def six_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a machine whose nvidia-smi lists six GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/bash\nfor i in {0..5}; do echo "GPU $i: NVIDIA H200 (UUID: GPU-$i)"; done\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("six_gpus")
def test_a_gpu_that_this_machine_does_not_have_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_gpus() == 6
    check_gpus([5, 0])
    with pytest.raises(UsageError, match=r"--gpus 0 7: GPU 7 not found; this machine has 6 GPUs \(0 to 5\)"):
        check_gpus([0, 7])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(UsageError, match="--gpus 3 5: CUDA_VISIBLE_DEVICES is '2,3' and hides GPU 5"):
        check_gpus([3, 5])


@pytest.mark.usefixtures("six_gpus")
def test_each_run_gets_one_gpu(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, SIX, tenths=4)
    rejected = experiments(tmp_path, "submit", batch.path, "--gpus", "3", "6")
    assert (rejected.returncode, states(batch)["wide.01"]) == (2, "new"), rejected.stdout
    assert experiments(tmp_path, "submit", batch.path, "--gpus", "3", "5", "--wait").returncode == 0
    held: dict[str, str] = {}
    for line in (batch.path / "events").read_text().splitlines():
        event, run, gpu = line.split()
        if event == "begin":
            assert gpu not in held.values()
            held[run] = gpu
        else:
            assert held.pop(run) == gpu
    assert max_parallel_runs(batch) == 2


def test_parallel_runs_share_the_cpus() -> None:
    cpus = num_usable_cpus()
    assert make_run_environment({}, None, jobs=1) == {}
    assert make_run_environment({}, 3, jobs=2 * cpus) == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3"}
    assert make_run_environment({}, None, jobs=2) == {"OMP_NUM_THREADS": str(max(1, cpus // 2))}
    assert make_run_environment({"OMP_NUM_THREADS": "7"}, None, jobs=2) == {"OMP_NUM_THREADS": "7"}


@pytest.mark.slow
def test_failed_and_killed_runs_do_not_stop_others_and_can_be_submitted_again(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  bad: {}\n  dead: {}\n  good: {}\n")
    done = experiments(tmp_path, "submit", batch.path, "--wait")
    assert done.returncode == 1
    assert done.stderr == "experiments: 2 runs not done: bad, dead\n"
    [shown] = json.loads(experiments(tmp_path, "show", batch.path, "--json").stdout)
    assert [(run["name"], run["state"], run["reason"]) for run in shown["runs"]] == [
        ("bad", "failed", "train-scenario: this one is bad"),
        ("dead", "failed", "killed by signal 9"),
        ("good", "done", ""),
    ]
    script = batch.job_script_path.read_text().replace("bad*)", "worse*)").replace("dead*)", "deader*)")
    batch.job_script_path.write_text(script)
    assert experiments(tmp_path, "submit", batch.path, "--wait").returncode == 0
    assert [event for event in events(batch) if event.startswith("begin")].count("begin good") == 1


def test_runs_outlive_the_shell_that_submitted_them(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, SIX)
    shell = subprocess.Popen(
        ["bash", "-c", 'trap "" INT; "$@"; sleep 60', "bash", *command("submit", batch.path)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: events(batch))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL):
        os.killpg(shell.pid, number)
    shell.wait()
    wait_until(lambda: not is_scheduler_running(batch))
    assert set(states(batch).values()) == {"done"}


def test_a_killed_scheduler_loses_no_run_and_starts_none_twice(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, SIX, tenths=1)
    (batch.path / "hold").touch()
    experiments(tmp_path, "submit", batch.path, "--jobs", "2")
    wait_until(lambda: len(events(batch)) == 2)
    os.kill(scheduler_of(batch), signal.SIGKILL)
    wait_until(lambda: not is_scheduler_running(batch))
    shown = experiments(tmp_path, "show", batch.path).stdout
    assert "2 running, 4 waiting" in shown
    assert f"scheduler is not running; run `experiments submit {batch.path}` to restart it" in shown
    (batch.path / "hold").unlink()
    done = experiments(tmp_path, "submit", batch.path, "--jobs", "3", "--wait")
    assert done.stdout.startswith(f"0 runs of {batch.path} submitted (")
    wait_until(lambda: not is_scheduler_running(batch))
    assert len(events(batch)) == 12
    assert len(set(events(batch))) == 12
    assert set(states(batch).values()) == {"done"}


@pytest.mark.slow
def test_the_queue_of_a_batch_that_is_moved_ends_with_one_line(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, SIX)
    (batch.path / "hold").touch()
    experiments(tmp_path, "submit", batch.path)
    wait_until(lambda: events(batch))
    queue = scheduler_of(batch)
    moved = Batch(batch.path.rename(tmp_path / "moved"))
    wait_until(lambda: not psutil.pid_exists(queue))
    (moved.path / "hold").unlink()
    log = (moved.queue_dir / "scheduler.log").read_text()
    assert f"{batch.path}: directory not found; the scheduler stops." in log
    assert "Traceback" not in log


def test_runs_can_be_added_and_submitted_while_the_queue_runs(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 2}\n", tenths=30)
    experiments(tmp_path, "submit", batch.path)
    wait_until(lambda: events(batch))
    at_work = scheduler_of(batch)
    assert experiments(tmp_path, "add", batch.path, "--run").returncode == 0
    assert scheduler_of(batch) == at_work
    (batch.path / "tenths").write_text("1")
    wait_until(lambda: not is_scheduler_running(batch))
    assert events(batch) == [f"{event} wide.0{number}" for number in (1, 2, 3, 4) for event in ("begin", "end")]


def test_cancelled_runs_save_and_stop_and_resume_when_submitted_again(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 3}\n", tenths=600)
    experiments(tmp_path, "submit", batch.path)
    wait_until(lambda: "begin wide.01" in events(batch))
    done = experiments(tmp_path, "cancel", batch.path, "wide.01", "wide.02")
    assert done.stdout == f"2 runs of {batch.path} cancelled; to resume: experiments submit {batch.path}\n"
    wait_until(lambda: "stop wide.01" in events(batch))
    wait_until(lambda: "begin wide.03" in events(batch))
    assert states(batch)["wide.02"] == "cancelled"
    wait_until(lambda: states(batch)["wide.01"] == "cancelled")
    experiments(tmp_path, "cancel", batch.path)
    wait_until(lambda: not is_scheduler_running(batch))
    assert set(states(batch).values()) == {"cancelled"}
    (batch.path / "tenths").write_text("1")
    assert experiments(tmp_path, "submit", batch.path, "--jobs", "3", "--wait").returncode == 0
    assert set(states(batch).values()) == {"done"}


def test_a_run_whose_scheduler_was_killed_can_be_cancelled(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n", tenths=600)
    experiments(tmp_path, "submit", batch.path)
    wait_until(lambda: events(batch))
    os.kill(scheduler_of(batch), signal.SIGKILL)
    experiments(tmp_path, "cancel", batch.path)
    wait_until(lambda: "stop wide" in events(batch))
    wait_until(lambda: states(batch)["wide"] == "cancelled")


def test_the_log_of_a_run_is_shown(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  bad: {}\n")
    experiments(tmp_path, "submit", batch.path, "--wait")
    shown = experiments(tmp_path, "show", "--log", "bad").stdout
    assert shown == f"{batch.log_path('bad').relative_to(tmp_path)}:\ntrain-scenario: this one is bad\n"
    wrong = experiments(tmp_path, "show", "--log", "worse")
    assert wrong.stderr == "experiments: --log worse: no run has this name\n"


@pytest.mark.slow
def test_a_full_disk_neither_ends_the_queue_nor_blocks_cancel(small_disk: Path) -> None:
    batch = make_fake_batch(small_disk, "  dead: {}\n  wide: {repeat: 3}\n", tenths=0)
    (batch.path / "hold").touch()
    experiments(small_disk, "submit", batch.path, "--jobs", "2")
    wait_until(lambda: len(events(batch)) == 2)
    scheduler = scheduler_of(batch)
    filler = fill(small_disk)
    (batch.path / "hold").unlink()
    wait_until(lambda: not is_run_alive(batch, "dead"))
    cancelled = experiments(small_disk, "cancel", batch.path, "wide.02")
    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert states(batch)["wide.02"] == "cancelled"
    rejected = experiments(small_disk, "submit", batch.path, "wide.02")
    assert rejected.returncode == 1
    assert rejected.stderr.startswith(f"experiments: No space left on device: {batch.path}")
    assert rejected.stderr.endswith("\nFree some space, then run the same command again.\n")
    assert "disk full: runs wait until space is available" in experiments(small_disk, "show", batch.path).stdout
    assert scheduler_of(batch) == scheduler
    filler.unlink()
    wait_until(lambda: not is_scheduler_running(batch))
    assert states(batch) == {"dead": "failed", "wide.01": "done", "wide.02": "cancelled", "wide.03": "done"}
    assert events(batch).count("begin dead") == 2  # it had failed on a full disk
    assert experiments(small_disk, "submit", batch.path, "wide", "--wait").returncode == 0
    assert [event for event in events(batch) if event.startswith("begin")].count("begin wide.01") == 1
