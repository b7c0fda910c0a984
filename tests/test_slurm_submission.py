"""Submissions to a cluster whose process is killed: no job is unknown, and no run is submitted twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batches import events, make_fake_batch
from conftest import Run
from fake_slurm import FakeSlurm

from tfaip_like import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers import Slurm
from tfaip_like.experiments.launchers._submissions import NO_ARRAY_JOB, read_submissions, record_submission

ASK = ("--slurm", "--time", "5", "--mem", "100M")


class User:
    """Somebody with a batch of two runs at a cluster."""

    def __init__(self, folder: Path, run: Run, configurations: str = "  wide: {repeat: 2}\n"):
        self.batch = make_fake_batch(folder, configurations, tenths=0)
        self.slurm = FakeSlurm.at(folder / "slurm")
        self._run = run

    def run(self, *words: str) -> str:
        """Run `experiments` with the batch as its first argument; return what it prints."""
        done = self._run("experiments", words[0], self.batch.path, *words[1:], environment=self.slurm.environment)
        self.code = done.returncode
        return done.stdout + done.stderr

    def submit(self, *words: str) -> str:
        return self.run("submit", *words, *ASK)

    def states(self) -> list[tuple[str, str]]:
        [shown] = json.loads(self.run("show", "--json"))
        return [(run["state"], run["job"]) for run in shown["runs"]]


@pytest.fixture
def user(tmp_path: Path, quick_run: Run) -> User:
    return User(tmp_path, quick_run)


def test_killed_before_the_cluster_has_the_job_it_is_submitted_again(user: User) -> None:
    user.slurm.set_behavior("dies_before")
    user.submit()
    assert user.states() == [("new", None), ("new", None)]
    assert "submission was interrupted" in user.run("show")
    assert user.submit() == f"2 runs of {user.batch.path} submitted as SLURM job 100\n"
    assert user.states() == [("waiting", "100_0"), ("waiting", "100_1")]
    # The first one was only slow: it comes after all, and leaves the runs to the second.
    late = read_submissions(user.batch)[0].script
    done = user.slurm.run_task(late, "77", 0)
    assert (done.returncode, events(user.batch)) == (0, [])
    assert "nothing to do: its runs belong to job" in done.stdout


def test_killed_after_the_cluster_has_the_job_it_is_found(user: User) -> None:
    user.slurm.set_behavior("dies_after")
    user.submit()
    assert user.states() == [("waiting", "100_0"), ("waiting", "100_1")]
    assert user.submit() == f"0 runs of {user.batch.path} submitted (2 waiting already)\n"
    assert len(user.slurm.jobs()) == 1
    assert user.states() == [("waiting", "100_0"), ("waiting", "100_1")]


def test_a_task_that_starts_before_its_job_is_recorded_records_it(user: User) -> None:
    user.slurm.set_behavior("dies_after")
    user.submit()
    ((number, script),) = user.slurm.jobs()
    user.slurm.set_behavior("jobs")  # the cluster has forgotten it
    assert user.slurm.run_task(script, number, 1).returncode == 0
    assert events(user.batch) == ["begin wide.02", "end wide.02"]
    assert user.submit().startswith(f"1 run of {user.batch.path} submitted as SLURM job 100 (1 done already)")


def test_an_unreachable_cluster_blocks_submissions_but_not_cancellations(user: User) -> None:
    user.slurm.set_behavior("dies_after")
    user.submit()
    user.slurm.set_behavior("silent")
    for words in (ASK, ()):
        printed = user.run("submit", *words)
        assert user.code == 2
        assert "this submission was interrupted, and squeue failed" in printed
    assert user.run("cancel").startswith(f"2 runs of {user.batch.path} cancelled")
    ((number, script),) = user.slurm.jobs()
    assert user.slurm.run_task(script, number, 0).returncode == 0
    assert events(user.batch) == []


def test_a_job_whose_acceptance_was_lost_is_known(user: User) -> None:
    user.slurm.set_behavior("loses_its_answer")
    assert user.submit() == f"2 runs of {user.batch.path} submitted as SLURM job 100\n"


def test_a_rejected_job_leaves_only_its_script(user: User) -> None:
    user.slurm.set_behavior("refuses", "invalid partition specified: gpu")
    printed = user.submit()
    assert printed.startswith("experiments: sbatch: sbatch: error: invalid partition specified: gpu\n(the script is ")
    assert user.states() == [("new", None), ("new", None)]


def test_arrays_submitted_before_a_rejected_one_are_reported(user: User) -> None:
    user.slurm.set_behavior("largest", "1")
    user.submit("wide.01")
    assert user.submit() == f"1 run of {user.batch.path} submitted as SLURM job 101 (1 waiting already)\n"
    assert [script.parent.name.partition("-")[0] for _, script in user.slurm.jobs()] == ["1", "2"]


def test_a_task_trains_its_runs_one_after_another_and_none_again_after_a_requeue(
    tmp_path: Path, quick_run: Run
) -> None:
    user = User(tmp_path, quick_run, "  wide: {repeat: 3}\n  bad: {}\n")
    user.submit("--runs_per_task", "2")
    ((number, script),) = user.slurm.jobs()
    assert "first=(0 2 3 4)" in script.read_text()
    user.run("cancel", "wide.02")
    assert not (user.slurm.folder / "cancelled").exists()  # the task is needed for the other run
    codes = [user.slurm.run_task(script, number, task).returncode for task in (0, 1, 2, 0, 1, 2)]
    assert codes == [0, 0, 1, 0, 0, 0]
    trained = ["begin wide.01", "end wide.01", "begin wide.03", "end wide.03", "begin bad", "fail bad"]
    assert events(user.batch) == trained


def test_runs_of_another_user_are_cancelled_without_permission_of_the_cluster(user: User) -> None:
    user.submit()
    user.slurm.set_behavior("forbids")
    printed = user.run("cancel")
    assert "(scancel: scancel: error: Access/permission denied; running jobs stop by themselves" in printed
    assert user.states() == [("cancelled", "100_0"), ("cancelled", "100_1")]
    # Submitted again they belong to the new job, although the old one still waits.
    assert user.submit().startswith(f"2 runs of {user.batch.path} submitted as SLURM job 101")
    (first, old), (_, new) = user.slurm.jobs()
    user.slurm.run_task(old, first, 0)
    assert events(user.batch) == []
    assert user.slurm.run_task(new, "101", 0).returncode == 0
    assert events(user.batch) == ["begin wide.01", "end wide.01"]


def test_a_whole_array_is_cancelled_by_its_number(user: User) -> None:
    user.submit()
    user.run("cancel", "wide.01")
    user.run("cancel")
    assert (user.slurm.folder / "cancelled").read_text() == "100_0\n100\n"


def test_arrays_with_a_limit_follow_one_another(user: User) -> None:
    user.submit("wide.01", "--jobs", "1")
    user.submit("wide.02", "--jobs", "1", "--launcher.sbatch", "dependency=afterok:55")
    first, second = (script.read_text() for _, script in user.slurm.jobs())
    assert "--dependency" not in first
    assert "#SBATCH --dependency=afterok:55,afterany:100\n" in second


def test_an_array_within_the_job_limit_does_not_wait(user: User) -> None:
    user.submit("wide.01", "--jobs", "2")
    user.submit("wide.02", "--jobs", "2")  # as a search submits its runs
    assert all("--dependency" not in script.read_text() for _, script in user.slurm.jobs())


def test_a_recorded_job_number_is_kept(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    submission = record_submission(batch, [("wide",)], lambda here: f"# {here}\n", Slurm().to_dict(), Slurm.task_id)
    assert submission.array_job is None
    assert submission.claim("7") == "7"
    assert submission.claim(NO_ARRAY_JOB) == "7"
    assert read_submissions(batch) == [submission]
    (submission.folder / "job").write_text("7;cluster\n")
    with pytest.raises(UsageError, match='job, line 1: expected a job ID, got "7;cluster"'):
        _ = submission.array_job
