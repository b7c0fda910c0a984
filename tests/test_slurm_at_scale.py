"""Batches of 1,000 runs on a real SLURM cluster of one node."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from batches import cheap_batch, command, environment, events, experiments, until
from slurm_cluster import Cluster, needs_slurm

from tfaip_like.experiments.batch import Batch
from tfaip_like.experiments.submissions import read_submissions, submissions_dir

pytestmark = [needs_slurm, pytest.mark.slow, pytest.mark.timeout(3600)]

ASK = ("--slurm", "--time", "5", "--mem", "100M")
NUM_RUNS = 1000
NUM_KILLS = 20


def tasks_on_cluster(batch: Batch, cluster: Cluster) -> dict[str, str]:
    """The tasks of a batch that the cluster knows, with their scripts."""
    lines = cluster.says("squeue", "--noheader", "--array", "--states=all", "--format=%F_%K|%o").splitlines()
    tasks = dict(line.strip().split("|", 1) for line in lines)
    scripts = {str(path) for path in submissions_dir(batch).glob("*/array.sh")}  # not those of earlier trials
    return {task: script for task, script in tasks.items() if script in scripts}


def known_jobs(batch: Batch) -> Counter[str]:
    """The tasks that `show` knows."""
    [shown] = json.loads(experiments(batch.path, "show", batch.path, "--json").stdout)
    return Counter(run["job"] for run in shown["runs"] if run["job"] is not None)


def submitted_runs(batch: Batch, tasks: dict[str, str]) -> Counter[str]:
    """The runs that tasks of the cluster will train."""
    runs = Counter[str]()
    for submission in read_submissions(batch):
        for name, job in submission.jobs(submission.array or "").items():
            runs[name] += job in tasks
    return runs


def kill_a_submission(batch: Batch, moment_s: float, is_after_record: bool) -> None:
    """Submit a batch, and kill the shell and all that it has started after some time."""
    shell = subprocess.Popen(
        ["bash", "-c", '"$@"; true', "bash", *command("submit", batch.path, *ASK)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if is_after_record:
        until(lambda: list(submissions_dir(batch).glob("*-*")) or shell.poll() is not None)
    time.sleep(moment_s)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


def empty(batch: Batch, cluster: Cluster) -> None:
    """Make a batch as it was before it was submitted."""
    cluster.says("scancel", "--me")
    until(lambda: not cluster.says("squeue", "--noheader"))
    for folder in (batch.queue, batch.path / "runs", batch.path / "logs"):
        shutil.rmtree(folder)
        folder.mkdir()
    (batch.path / "events").unlink(missing_ok=True)


def test_a_killed_submission_leaves_no_unknown_job_and_none_twice(tmp_path: Path, cluster: Cluster) -> None:
    batch = cheap_batch(tmp_path, f"  wide: {{repeat: {NUM_RUNS}}}\n", tenths=0)
    begin = time.monotonic()
    assert experiments(tmp_path, "submit", batch.path, *ASK).returncode == 0
    whole_s = time.monotonic() - begin
    source = random.Random(1)
    for number in range(NUM_KILLS):
        empty(batch, cluster)
        is_after_record = number % 2 == 1  # these come while the cluster is asked
        moment_s = source.uniform(0, 0.5 if is_after_record else whole_s)
        kill_a_submission(batch, moment_s, is_after_record)
        before = tasks_on_cluster(batch, cluster)
        known = known_jobs(batch)
        assert set(before) <= set(known)
        assert set(known.values()) <= {1}
        again = experiments(tmp_path, "submit", batch.path, *ASK)
        assert again.returncode == 0, again.stderr
        tasks = tasks_on_cluster(batch, cluster)
        assert submitted_runs(batch, tasks) == Counter({run.name: 1 for run in batch.index().runs})
        print(
            f"killed {moment_s:.2f} s after {'its record' if is_after_record else 'its start'}: {len(before)} tasks on "
            f"the cluster, all known; then: {again.stdout.strip()}; {len(tasks)} tasks on the cluster"
        )
    until(lambda: len(events(batch)) > 10)
    begun = Counter(event for event in events(batch) if event.startswith("begin"))
    assert set(begun.values()) == {1}
