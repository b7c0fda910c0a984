"""Batches of 1,000 runs on a real SLURM cluster of one node."""

from __future__ import annotations

import grp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from batches import JOB, PLAN, command, environment, events, experiments, make_fake_batch, wait_until
from conftest import fill
from slurm_cluster import Cluster, needs_slurm

from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._submissions import read_submissions, submissions_dir

pytestmark = [needs_slurm, pytest.mark.slow, pytest.mark.timeout(3600)]

ASK = ("--slurm", "--time", "5", "--mem", "100M")
NUM_RUNS = 1000
NUM_KILLS = 20
GROUP = "users"
MEMBERS = ("games", "news")


def tasks_on_cluster(batch: Batch, cluster: Cluster) -> dict[str, str]:
    """Return the tasks of a batch that the cluster knows, with their scripts."""
    lines = cluster.run_client("squeue", "--noheader", "--array", "--states=all", "--format=%F_%K|%o").splitlines()
    tasks = dict(line.strip().split("|", 1) for line in lines)
    scripts = {str(path) for path in submissions_dir(batch).glob("*/array.sh")}  # not those of earlier trials
    return {task: script for task, script in tasks.items() if script in scripts}


def count_known_jobs(batch: Batch) -> Counter[str]:
    """Return the tasks that `show` knows."""
    [shown] = json.loads(experiments(batch.path, "show", batch.path, "--json").stdout)
    return Counter(run["job"] for run in shown["runs"] if run["job"] is not None)


def submitted_runs(batch: Batch, tasks: dict[str, str]) -> Counter[str]:
    """Return the runs that tasks of the cluster will train."""
    runs = Counter[str]()
    for submission in read_submissions(batch):
        for name, job in submission.task_ids(submission.array_job or "").items():
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
        wait_until(lambda: list(submissions_dir(batch).glob("*-*")) or shell.poll() is not None)
    time.sleep(moment_s)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


def empty(batch: Batch, cluster: Cluster) -> None:
    """Make a batch as it was before it was submitted."""
    cluster.run_client("scancel", "--me")
    wait_until(lambda: not cluster.run_client("squeue", "--noheader"))
    for folder in (batch.queue_dir, batch.path / "runs", batch.path / "logs"):
        shutil.rmtree(folder)
        folder.mkdir()
    (batch.path / "events").unlink(missing_ok=True)


def test_a_killed_submission_leaves_no_unknown_job_and_none_twice(tmp_path: Path, cluster: Cluster) -> None:
    batch = make_fake_batch(tmp_path, f"  wide: {{repeat: {NUM_RUNS}}}\n", tenths=0)
    begin = time.monotonic()
    assert experiments(tmp_path, "submit", batch.path, *ASK).returncode == 0
    whole_s = time.monotonic() - begin
    source = random.Random(1)
    for number in range(NUM_KILLS):
        empty(batch, cluster)
        is_after_record = number % 2 == 1  # these come while the cluster is asked
        moment_s = source.uniform(0, 0.5 if is_after_record else whole_s)
        kill_a_submission(batch, moment_s, is_after_record)
        before = set(tasks_on_cluster(batch, cluster))
        wait_until(lambda tasks=before: tasks <= set(count_known_jobs(batch)))  # a busy cluster may not answer in time
        assert set(count_known_jobs(batch).values()) <= {1}
        again = experiments(tmp_path, "submit", batch.path, *ASK)
        assert again.returncode == 0, again.stderr
        tasks = tasks_on_cluster(batch, cluster)
        assert submitted_runs(batch, tasks) == Counter({run.name: 1 for run in batch.read_index().runs})
        print(
            f"killed {moment_s:.2f} s after {'its record' if is_after_record else 'its start'}: {len(before)} tasks on "
            f"the cluster, all known; then: {again.stdout.strip()}; {len(tasks)} tasks on the cluster"
        )
    wait_until(lambda: len(events(batch)) > 10)
    begun = Counter(event for event in events(batch) if event.startswith("begin"))
    assert set(begun.values()) == {1}
    empty(batch, cluster)  # for the next test


@dataclass(frozen=True)
class Member:
    """A user of the group to which a shared folder belongs."""

    name: str
    home: Path

    def experiments(self, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
        """Run the command as this user."""
        group = grp.getgrnam(GROUP).gr_gid
        return subprocess.run(
            command(*words),
            cwd=folder,
            env={**environment(), "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home)},
            user=self.name,
            group=group,
            extra_groups=[],
            umask=0o002,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


def run_as(member: Member, folder: Path, *words: object) -> str:
    """Return the output of the command of a group member."""
    done = member.experiments(folder, *words)
    assert done.returncode == 0, f"{member.name}: {words}: {done.stdout}{done.stderr}"
    text = done.stdout + done.stderr
    print(f"{member.name}$ experiments {' '.join(map(str, words))}\n{text[:600].rstrip()}")
    return text


@pytest.fixture
def shared_disk(cluster: Cluster) -> Iterator[Path]:
    """Provide a disk of a group, whose folders get the setgid bit."""
    if os.geteuid() != 0 or not os.path.realpath(sys.executable).startswith(("/usr", "/opt", "/tmp")):
        pytest.skip("only root can be several users, and they need to be allowed to run this Python")
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode:
        pytest.skip("no file systems can be mounted here")
    shutil.chown(folder, group=GROUP)
    folder.chmod(0o2775)
    yield folder
    for name in MEMBERS:
        cluster.run_client("scancel", f"--user={name}")
    while subprocess.run(["umount", folder], check=False, capture_output=True).returncode:  # a job is still ending
        time.sleep(0.5)
    folder.rmdir()


@pytest.fixture
def members() -> Iterator[tuple[Member, Member]]:
    """Two users that every system has, with their own home directories."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        found = []
        for name in MEMBERS:
            home = Path(folder, name)
            home.mkdir()
            shutil.chown(home, user=name)
            found.append(Member(name, home))
        yield found[0], found[1]


def counts(member: Member, folder: Path, batch: Batch) -> dict[str, int]:
    [shown] = json.loads(member.experiments(folder, "show", batch.path, "--json").stdout)
    return dict(shown["counts"])


def test_two_users_of_a_group_work_on_a_batch(
    shared_disk: Path, members: tuple[Member, Member], cluster: Cluster
) -> None:
    one, other = members
    (shared_disk / "plan.yaml").write_text(f"{PLAN}  wide: {{repeat: {NUM_RUNS // 2}}}\n")
    run_as(one, shared_disk, "generate", "plan.yaml")
    batch = Batch(shared_disk / "batches" / "plan" / "version_1")
    batch.job_script_path.write_text(JOB)
    (batch.path / "tenths").write_text("600")
    rejected = other.experiments(shared_disk, "add", batch.path)
    assert rejected.returncode == 2
    assert "trust_code" in rejected.stderr
    run_as(other, shared_disk, "add", batch.path, "--trust_code", "true")
    assert len(batch.read_index().runs) == NUM_RUNS
    half = "wide.???"
    run_as(one, shared_disk, "submit", batch.path, half, *ASK, "--trust_code", "true")
    run_as(other, shared_disk, "submit", batch.path, *ASK)
    wait_until(lambda: len(events(batch)) >= 2)
    for member in members:
        assert run_as(member, shared_disk, "show", batch.path, "--brief").startswith(
            f"{batch.path}: {NUM_RUNS} runs: 2 r"
        )
    tasks = tasks_on_cluster(batch, cluster)
    assert submitted_runs(batch, tasks) == Counter({run.name: 1 for run in batch.read_index().runs})

    filler = fill(shared_disk)
    full = one.experiments(shared_disk, "submit", batch.path, *ASK)
    print(full.returncode, full.stdout, full.stderr)
    run_as(other, shared_disk, "cancel", batch.path, "wide.00?", "wide.09??")  # the first nine are not theirs
    run_as(one, shared_disk, "cancel", batch.path, "wide.01?", "wide.08??")  # the last hundred are not theirs
    for member in members:
        assert (
            counts(member, shared_disk, batch)["cancelled"] >= 9 + 100 + 10 + 100 - 2
        )  # two are at work and save their state
    filler.unlink()

    wait_until(lambda: {"stop wide.001", "stop wide.002"} <= set(events(batch)))
    run_as(other, shared_disk, "submit", batch.path, "wide.00?", *ASK)
    run_as(one, shared_disk, "submit", batch.path, *ASK)
    for member in members:
        assert "cancelled" not in counts(member, shared_disk, batch)
    (batch.path / "tenths").write_text("0")
    run_as(one, shared_disk, "cancel", batch.path, "wide.???")
    run_as(other, shared_disk, "cancel", batch.path)
    wait_until(lambda: not {"running", "waiting"} & set(counts(one, shared_disk, batch)), seconds=600)
    begun = Counter(event for event in events(batch) if event.startswith("begin"))
    assert set(begun.values()) <= {1, 2}
    for path in [shared_disk, *shared_disk.rglob("*")]:
        status = path.lstat()
        assert grp.getgrgid(status.st_gid).gr_name == GROUP, path
        if path.is_dir():
            assert status.st_mode & 0o2070 == 0o2070, path
        elif path.name != "filler":
            assert status.st_mode & 0o040, path
