"""Batches on a real SLURM cluster of one node, which a fixture starts."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
from batches import PLAN, events, experiments, make_fake_batch, move_while_a_run_starts, states, wait_until
from slurm_cluster import Cluster, needs_slurm
from stopping import differences

from tfaip_like._runs.reader import Run
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments.launchers import ResourceRequest, Slurm
from tfaip_like.experiments.launchers._jobs import parse_memory_limit, parse_time_limit
from tfaip_like.experiments.launchers._slurm import MANAGED_OPTIONS, make_job_status

ASK = ("--slurm", "--time", "5", "--mem", "100M")


def job_of(batch: Batch, name: str) -> str:
    """Return the name of a run on the cluster."""
    [shown] = json.loads(experiments(batch.path, "show", batch.path, "--json").stdout)
    return str(next(run["job"] for run in shown["runs"] if run["name"] == name))


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("5", 300), ("5:30", 330), ("2:30:00", 9000), ("1-0", 86400), ("1-2:30", 95400), ("0-0:0:7", 7)],
)
def test_time_limits_are_read_as_slurm_does(limit: str, seconds: int) -> None:
    assert parse_time_limit(limit) == seconds


@pytest.mark.parametrize(
    ("limit", "megabytes"), [("500", 500), ("500M", 500), ("4G", 4096), ("1T", 1024**2), ("1025K", 2)]
)
def test_memory_limits_are_read_as_slurm_does(limit: str, megabytes: int) -> None:
    assert parse_memory_limit(limit) == megabytes


def test_paths_with_spaces_and_percents_stay_what_they_are(tmp_path: Path) -> None:
    batch = Batch(tmp_path / "50% x" / "version_1")
    script = Slurm().make_script(batch, str(tmp_path), [["wide"]], ResourceRequest("2:00:00", "4G"))
    assert '#SBATCH --job-name="50% x/version_1"' in script
    assert f'#SBATCH --output="{tmp_path}/50%% x/version_1/logs/slurm-%A_%a.log"' in script


def test_options_set_by_the_batch_are_rejected(tmp_path: Path) -> None:
    request, slurm = ResourceRequest("1", "1G", gpus=(1,), cpus=1, jobs=1), Slurm(partition="p", account="a")
    per_cpu = dataclasses.replace(request, memory_is_per_cpu=True)
    batch = Batch(tmp_path / "zoo" / "version_1")
    lines = [line for one in (request, per_cpu) for line in slurm.directives(batch, 2, one)]
    assert {line.removeprefix("#SBATCH --").partition("=")[0] for line in lines} == {*MANAGED_OPTIONS, "requeue"}


def test_the_script_contains_all_options(tmp_path: Path) -> None:
    request = ResourceRequest("2:00:00", "4G", gpus=(1,), cpus=4, jobs=3)
    slurm = Slurm(partition="gpu", account="us", sbatch=["qos=long", "--nice"])
    batch = Batch(tmp_path / "zoo" / "version_1")
    script = slurm.make_script(batch, str(tmp_path), [["wide.01"], ["wide.02"]], request)
    assert [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")] == [
        "--job-name=zoo/version_1",
        "--array=0-1%3",
        "--time=2:00:00",
        "--mem=4G",
        "--partition=gpu",
        "--account=us",
        "--gpus=1",
        "--cpus-per-task=4",
        "--signal=B:USR1@120",
        f"--output={tmp_path}/zoo/version_1/logs/slurm-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        "--qos=long",
        "--nice",
    ]
    assert "runs=(wide.01 wide.02)\nfirst=(0 1 2)" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@needs_slurm
@pytest.mark.parametrize(
    "value",
    ["two words", "it's", 'say "x"', "back\\slash", "ends with \\", "a # b", "$HOME", "%j", "ü", "a=b", "[1] *"],
)
def test_option_values_reach_sbatch_unchanged(tmp_path: Path, cluster: Cluster, value: str) -> None:
    slurm = Slurm(sbatch=[f"comment={value}", "hold"])
    script = tmp_path / "array.sh"
    batch = Batch(tmp_path / "zoo" / "version_1")
    script.write_text(slurm.make_script(batch, str(tmp_path), [["wide"]], ResourceRequest("5", "100M")))
    number = cluster.run_client("sbatch", "--parsable", str(script)).strip()
    assert cluster.run_client("squeue", "--noheader", f"--jobs={number}", "--format=%k").rstrip("\n") == value
    cluster.run_client("scancel", number)


@pytest.mark.parametrize(
    ("state", "phase"),
    [("PENDING", "pending"), ("RUNNING", "running"), ("COMPLETING", "running"), ("TIMEOUT", "ended")],
)
def test_states_of_slurm_map_to_phases(state: str, phase: str) -> None:
    assert make_job_status(state).phase == phase


def test_a_dry_run_shows_the_script_without_a_cluster(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 2}\n")
    done = experiments(tmp_path, "submit", batch.path, *ASK, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --array=0-1\n" in done.stdout
    assert done.stdout.endswith(f"2 runs of {batch.path} would be submitted\n")
    assert set(states(batch).values()) == {"new"}


@needs_slurm
def test_an_array_limits_its_running_tasks_and_a_crash_stops_no_other(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 5}\n  bad: {}\n", tenths=5)
    (batch.path / "hold").touch()
    assert experiments(tmp_path, "submit", batch.path, *ASK, "--jobs", "2").returncode == 0
    assert experiments(tmp_path, "submit", batch.path, *ASK).stdout.startswith(f"0 runs of {batch.path} submitted (")
    (batch.path / "hold").unlink()
    wait_until(lambda: not set(states(batch).values()) & {"running", "waiting"})
    [shown] = json.loads(experiments(tmp_path, "show", "--json").stdout)
    assert shown["counts"] == {"done": 5, "failed": 1}
    assert shown["runs"][5]["reason"] == "train-scenario: this one is bad"
    assert sorted(event for event in events(batch) if event.startswith("begin")) == [
        "begin bad",
        *(f"begin wide.0{number}" for number in range(1, 6)),
    ]


@needs_slurm
@pytest.mark.slow
def test_requeued_and_cancelled_runs_save_and_resume(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n  other: {}\n", tenths=600)
    assert experiments(tmp_path, "submit", batch.path, *ASK).returncode == 0
    wait_until(lambda: len(events(batch)) == 2)
    (batch.path / "tenths").write_text("1")
    cluster.run_client("scontrol", "requeue", job_of(batch, "wide"))
    cluster.run_client("scancel", job_of(batch, "other"))
    wait_until(lambda: {"stop wide", "stop other"} <= set(events(batch)))
    wait_until(lambda: states(batch) == {"wide": "done", "other": "cancelled"})
    assert experiments(tmp_path, "submit", batch.path, *ASK, "--wait").returncode == 0
    assert events(batch).count("end wide") == events(batch).count("end other") == 1


@needs_slurm
@pytest.mark.slow
def test_a_requeued_task_continues_with_the_run_that_it_was_at(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 3}\n", tenths=0)
    (batch.path / "hold").touch()
    experiments(tmp_path, "submit", batch.path, *ASK, "--runs_per_task", "3")
    wait_until(lambda: "begin wide.01" in events(batch))
    (batch.path / "hold").unlink()
    wait_until(lambda: "end wide.01" in events(batch))
    (batch.path / "hold").touch()
    wait_until(lambda: events(batch)[-1].startswith("begin"))
    cluster.run_client("scontrol", "requeue", job_of(batch, "wide.01"))
    wait_until(lambda: any(event.startswith("stop") for event in events(batch)))
    (batch.path / "hold").unlink()
    wait_until(lambda: set(states(batch).values()) == {"done"})
    ends = [event for event in events(batch) if event.startswith("end")]
    assert ends == ["end wide.01", "end wide.02", "end wide.03"]


@needs_slurm
def test_cancel_removes_jobs_from_the_cluster(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {repeat: 2}\n", tenths=600)
    experiments(tmp_path, "submit", batch.path, *ASK, "--jobs", "1")
    wait_until(lambda: events(batch))
    assert cluster.run_client("squeue", "--noheader", "--states=RUNNING", "--format=%j").split() == ["wide.01"]
    assert "2 runs of" in experiments(tmp_path, "cancel", batch.path).stdout
    wait_until(lambda: "stop wide.01" in events(batch))
    wait_until(lambda: set(states(batch).values()) == {"cancelled"})


@needs_slurm
@pytest.mark.slow
def test_a_preempted_run_resumes(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n", tenths=600)
    experiments(tmp_path, "submit", batch.path, *ASK, "--cpus", "2")
    wait_until(lambda: events(batch))
    (batch.path / "tenths").write_text("1")
    cluster.run_client("sbatch", "--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 8")
    wait_until(lambda: states(batch) == {"wide": "preempted"})
    wait_until(lambda: states(batch) == {"wide": "done"})


@needs_slurm
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_that_meets_its_time_limit_ends_with_the_same_bits(tmp_path: Path, cluster: Cluster) -> None:
    pause = "data.processors: Pause, data.processors.0.seconds: 0.1, data.processors.0.modes: TRAIN"
    settings = f"{{{pause}, trainer.random_seed: 7, trainer.epochs: 24}}"
    (tmp_path / "plan.yaml").write_text(f"{PLAN}  cut: {settings}\n  whole: {settings}\n")
    assert experiments(tmp_path, "generate", "plan.yaml").returncode == 0
    batch = Batch(tmp_path / "batches" / "plan" / "version_1")
    for minutes in (3, 5):  # on a busy machine, no step is trained in the first
        limit = ("--slurm", "--time", minutes, "--mem", "2G", "--save_seconds", "70")
        experiments(tmp_path, "submit", batch.path, "cut", *limit)
        wait_until(lambda: states(batch)["cut"] not in ("waiting", "running"), seconds=500)
        if states(batch)["cut"] == "preempted":
            break
    wait_until(lambda: states(batch)["cut"] not in ACTIVE_STATES, seconds=500)
    if states(batch)["cut"] != "done":  # on a busy machine nothing new was saved in its second start
        assert experiments(tmp_path, "submit", batch.path, "cut", "--slurm", "--time", "30", "--mem", "2G", "--wait")
    assert experiments(tmp_path, "submit", batch.path, "whole", "--wait").returncode == 0
    record = Run(batch.run_dir("cut")).info
    if "resumed" not in record:
        pytest.skip("this machine was too busy to train a step before the time limit")
    assert record["cluster_job"] == record["resumed"][0]["cluster_job"]
    assert record["cluster_job"]["name"] == "cut"
    assert record["cluster_job"]["job"] == job_of(batch, "cut")
    assert differences(batch.run_dir("cut").path, batch.run_dir("whole").path) == []


@needs_slurm
@pytest.mark.slow
def test_a_task_that_is_starting_does_not_recreate_its_batch_that_was_moved(tmp_path: Path, cluster: Cluster) -> None:
    batch = move_while_a_run_starts(tmp_path, "--slurm", "--time", "5", "--mem", "2G")
    wait_until(lambda: not cluster.run_client("squeue", "--noheader"))
    assert not batch.path.exists()


@needs_slurm
@pytest.mark.slow
def test_a_limit_too_short_to_save_anything_ends_with_a_hint(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {}\n", tenths=600)
    batch.job_script_path.write_text(
        batch.job_script_path.read_text().replace('mkdir -p "$out/checkpoints/$RANDOM$RANDOM"; ', "")
    )
    experiments(tmp_path, "submit", batch.path, "--slurm", "--time", "1", "--mem", "100M", "--save_seconds", "55")
    wait_until(lambda: states(batch)["wide"] not in ("waiting", "running"), seconds=120)
    shown = experiments(tmp_path, "show", "--log", "wide").stdout
    assert "no progress within the time limit; resubmit with a larger --time" in shown
