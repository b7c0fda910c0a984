"""Launchers: a user's own for another cluster, in one file of another package."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest
from batches import command, environment, events, make_fake_batch, wait_until
from conftest import REPOSITORY, Run
from stand_in_pbs import StandInPbs
from test_docs import blocks

from tfaip_like import UsageError
from tfaip_like._runs.job_environment import read_cluster_job
from tfaip_like.experiments._submit import SubmitOptions
from tfaip_like.experiments.launchers import LocalQueue, Slurm
from tfaip_like.experiments.launchers._recorded import load_launcher
from tfaip_like.params._tree import validate_params

PBS = ("--launcher", "my_cluster.pbs:Pbs", "--launcher.queue", "long", "--time", "5", "--mem", "100M")


class User:
    """Somebody with a batch at a PBS cluster, and the launcher of the documentation in a package."""

    def __init__(self, folder: Path, configurations: str):
        package = folder / "site" / "my_cluster"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        listings = {name: text for _, name, text in blocks(REPOSITORY / "docs" / "how-to" / "clusters.md")}
        (package / "pbs.py").write_text(listings["pbs.py"])
        self.pbs = StandInPbs.at(folder / "bin")
        self.batch = make_fake_batch(folder, configurations, tenths=0)
        self.environment = {**environment(), "PATH": self.pbs.path}
        self.environment["PYTHONPATH"] += f"{os.pathsep}{folder / 'site'}"

    def run(self, *words: str) -> str:
        """Run `experiments` with the batch as its first argument; return what it prints."""
        done = subprocess.run(
            command(words[0], self.batch.path, *words[1:]),
            cwd=self.batch.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def shown(self) -> dict[str, dict[str, str]]:
        [shown] = json.loads(self.run("show", "--json"))
        return {run["name"]: run for run in shown["runs"]}

    def states(self) -> dict[str, str]:
        return {name: run["state"] for name, run in self.shown().items()}


@pytest.mark.slow
def test_a_batch_runs_on_another_cluster_with_a_launcher_of_one_file(tmp_path: Path) -> None:
    user = User(tmp_path, "  wide: {repeat: 3}\n  bad: {}\n")
    (user.batch.path / "hold").touch()
    assert "#PBS -q long\n" in user.run("submit", *PBS, "--dry_run")
    printed = user.run("submit", *PBS, "--jobs", "2")
    assert printed == f"4 runs of {user.batch.path} submitted as Pbs job 1-server, 2-server, 3-server, 4-server\n"
    wait_until(lambda: len(events(user.batch)) == 2)
    assert list(user.states().values()) == ["running", "running", "waiting", "waiting"]
    assert user.shown()["wide.01"]["node"] == "n1"
    assert user.run("submit", *PBS) == f"0 runs of {user.batch.path} submitted (2 running, 2 waiting already)\n"
    assert user.run("cancel", "wide.01", "wide.03").startswith(f"2 runs of {user.batch.path} cancelled")
    wait_until(lambda: "stop wide.01" in events(user.batch))
    (user.batch.path / "hold").unlink()
    wait_until(lambda: not {"running", "waiting"} & set(user.states().values()))
    assert user.states() == {"wide.01": "cancelled", "wide.02": "done", "wide.03": "cancelled", "bad": "failed"}
    assert user.shown()["bad"]["reason"] == "train-scenario: this one is bad"
    assert "begin wide.03" not in events(user.batch)
    assert "1 run of" in user.run("reset", "wide.02")
    assert user.states()["wide.02"] == "new"
    # The same batch is continued on this machine.
    user.run("submit", "wide.02", "wide.03", "--wait")
    assert [user.states()[name] for name in ("wide.02", "wide.03")] == ["done", "done"]


def test_a_launcher_is_found_in_the_current_directory(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from tfaip_like.experiments.launchers import Slurm\n\nclass Own(Slurm):\n    level: int = 3\n"
    )
    done = quick_run("experiments", "submit", "--launcher", "own:Own", "--help", "all", cwd=tmp_path)
    assert "--launcher.level INT  [3]" in done.stdout, done.stderr


def test_a_killed_submission_to_another_cluster_leaves_no_unknown_job_and_none_twice(tmp_path: Path) -> None:
    user = User(tmp_path, "  wide: {}\n")
    for behavior in ("busy", "dies"):
        (user.pbs.folder / behavior).touch()
    user.run("submit", *PBS)
    (user.pbs.folder / "silent").touch()
    assert "this submission was interrupted, and qstat failed to report" in user.run("submit", *PBS)
    (user.pbs.folder / "silent").unlink()
    assert user.run("submit", *PBS).startswith(f"0 runs of {user.batch.path} submitted (1 ")
    assert len(user.pbs.scripts()) == 1
    (user.pbs.folder / "busy").unlink()
    wait_until(lambda: user.states() == {"wide": "done"})


@pytest.mark.slow
def test_a_run_saves_before_the_time_limit_of_a_cluster_that_sends_no_signal(tmp_path: Path) -> None:
    user = User(tmp_path, "  wide: {}\n")
    (user.batch.path / "hold").touch()
    user.run("submit", *PBS[:4], "--time", "0:00:03", "--save_seconds", "2", "--mem", "100M")
    wait_until(lambda: "near wide" in events(user.batch))
    wait_until(lambda: user.states() == {"wide": "stopped"})
    assert user.shown()["wide"]["reason"] == "time limit reached; submit the run again to resume it"
    (user.batch.path / "hold").unlink()
    user.run("submit", *PBS)
    wait_until(lambda: user.states() == {"wide": "done"})


def test_without_its_package_a_launcher_hides_no_run(tmp_path: Path) -> None:
    user = User(tmp_path, "  wide: {}\n")
    user.run("submit", *PBS)
    wait_until(lambda: user.states() == {"wide": "done"})
    user.environment = environment()
    printed = user.run("show")
    assert "my_cluster.pbs:Pbs" in printed
    assert "states are based on the files of the runs only" in printed
    assert "wide  done" in printed


def test_the_launcher_is_a_variant_with_flags(tmp_path: Path) -> None:
    user = User(tmp_path, "  wide: {}\n")
    assert "unknown Launcher 'Slrm'; did you mean Slurm?" in user.run("submit", "--launcher", "Slrm")
    assert "--mem_per_cpu 2G: Pbs has no limit per CPU; use --mem" in user.run(
        "submit", *PBS[:2], "--mem_per_cpu", "2G"
    )
    assert "belongs to Slurm, but --launcher is LocalQueue" in user.run("submit", "--launcher.partition", "gpu")


@pytest.mark.parametrize("launcher", [LocalQueue(), Slurm(), Slurm(partition="gpu", sbatch=["qos=long"])])
def test_a_stored_launcher_is_read_back(launcher: LocalQueue | Slurm) -> None:
    assert load_launcher(json.loads(json.dumps(launcher.to_dict()))) == launcher


def test_a_stored_launcher_is_checked() -> None:
    stored = Slurm().to_dict()
    with pytest.raises(UsageError, match="launcher: .*'colour'"):
        load_launcher({**stored, "colour": 1})
    with pytest.raises(UsageError, match="launcher: class: .*is not a Launcher"):
        load_launcher({"class": "tfaip_like.optimizers:Adam"})


def test_python_chooses_a_launcher_as_flags_do() -> None:
    options = SubmitOptions(launcher=Slurm(partition="gpu"), time="5", mem="1G")
    assert dataclasses.replace(options, jobs=2).launcher == Slurm(partition="gpu")
    with pytest.raises(UsageError, match="requires a cluster"):
        validate_params(SubmitOptions(time="5"))


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"TFAIP_LIKE_JOB_ID": "7_1", "TFAIP_LIKE_JOB_NAME": "wide"}, {"job": "7_1", "name": "wide"}),
        ({"SLURM_JOB_ID": "9", "SLURM_JOB_NAME": "x"}, {"job": "9", "name": "x"}),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}, {"job": "8_3"}),
        (
            {"PBS_JOBID": "5.server", "PBS_QUEUE": "long", "TFAIP_LIKE_JOB_NAME": "wide"},
            {"job": "5.server", "partition": "long", "name": "wide"},
        ),
    ],
)
def test_a_training_records_the_job_that_it_belongs_to(environment: dict[str, str], job: dict[str, str] | None) -> None:
    assert read_cluster_job(environment) == job
