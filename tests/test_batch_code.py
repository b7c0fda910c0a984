"""Runs of a batch keep the code that they were generated with, forevery command that reads them later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from batches import MINE, environment, experiments
from conftest import REPOSITORY

from tfaip_like._runs.batch_layout import run_code_name_path
from tfaip_like._utils.json_files import write_json
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._tickets import make_ticket, write_ticket

SCENARIO = (
    """
from helper import WIDTH
from tfaip_like import Data, Model, Processor, Scenario, Spec

class Times(Processor):
    factor: int = WIDTH
    def process(self, sample, random):
        return sample

"""
    + MINE
)

FIND = """
import logging, sys
logging.basicConfig(format="%(message)s", level="WARNING")
from pathlib import Path
from tfaip_like import UsageError
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import import_scenario_class
for run in sys.argv[1:]:
    try:
        print(import_scenario_class("mine:Mine", OutputDir(Path(run)))().model.units)
    except UsageError as error:
        print(error, *error.__notes__, sep="\\n")
"""


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Provide a batch of code whose WIDTH is 5; in the folder where it was generated that has become 6."""
    (tmp_path / "mine.py").write_text(SCENARIO)
    (tmp_path / "helper.py").write_text("WIDTH = 5\n")
    (tmp_path / "plan.yaml").write_text("scenario: mine.py\ndescription: d\nconfigurations: {one: {}, two: {}}\n")
    done = experiments(tmp_path, "generate", "plan.yaml")
    assert done.returncode == 0, done.stderr
    (tmp_path / "helper.py").write_text("WIDTH = 6\n")
    return Batch(tmp_path / "batches" / "plan" / "version_1")


def import_from_runs(
    cwd: Path, *runs: Path, path: Path | None = None, configuration: Path | None = None
) -> tuple[str, str]:
    """Return the WIDTH of the scenario of each run, and what is warned of.

    Args:
        cwd: current directory of the commands.
        *runs: run directories.
        path: directory in PYTHONPATH.
        configuration: configuration directory of another user.
    """
    environment = dict(os.environ)
    if configuration is not None:
        environment["XDG_CONFIG_HOME"] = str(configuration)
    environment["PYTHONPATH"] = os.pathsep.join([*([str(path)] if path else []), str(REPOSITORY)])
    words = [sys.executable, "-P", "-c", FIND, *map(str, runs)]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_a_run_of_a_batch_imports_the_code_of_the_batch(batch: Batch, tmp_path: Path) -> None:
    run = batch.run_dir("one").path
    for path in (None, tmp_path):  # as with `python -m`, or PYTHONPATH=.
        assert import_from_runs(tmp_path, run, path=path) == ("5\n", "")
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(batch.path, moved)
    shutil.rmtree(batch.path)
    assert import_from_runs(tmp_path, moved / "runs" / "one") == ("5\n", "")


LOAD = """
import sys
from pathlib import Path
from tfaip_like._export.pipeline import load_pipeline
print(load_pipeline(Path(sys.argv[1])).processors[0].factor)
"""


def test_a_predictor_has_the_processors_of_the_batch(batch: Batch, tmp_path: Path) -> None:
    export = batch.run_dir("one").best
    export.mkdir(parents=True)
    pipeline = {"class": "tfaip_like.data:Pipeline", "processors": [{"class": "mine:Times"}]}
    write_json(export / "pipeline.json", pipeline)
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    words = [sys.executable, "-P", "-c", LOAD, str(export)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.stdout == "5\n", done.stderr


def test_code_that_differs_from_that_of_the_batch_is_reported(batch: Batch, tmp_path: Path) -> None:
    run = batch.run_dir("one").path
    stranger = tmp_path / "stranger"
    units, warning = import_from_runs(tmp_path, run, configuration=stranger)
    assert units == "6\n"
    assert warning == (
        f"{run}: code has changed since the batch was generated: using {tmp_path}/helper.py instead of the copy in "
        f"{batch.code_dir}, which is not trusted (--trust_code uses it)\n"
    )
    (tmp_path / "helper.py").write_text("WIDTH = 5\n")
    assert import_from_runs(tmp_path, run, configuration=stranger) == ("5\n", "")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    message, _ = import_from_runs(elsewhere, run, configuration=stranger)
    assert message.startswith("no module named 'mine'")
    assert f"It was trained with {batch.code_dir}, which is not recorded as trusted" in message


def test_one_process_cannot_import_the_code_of_two_batches(batch: Batch, tmp_path: Path) -> None:
    assert experiments(tmp_path, "generate", "plan.yaml").returncode == 0
    other = Batch(batch.path.with_name("version_2"))
    units, warning = import_from_runs(tmp_path, batch.run_dir("one").path, other.run_dir("one").path)
    assert units == "5\n5\n"
    used = f"using {batch.code_dir}/helper.py instead of the copy in {other.code_dir}"
    assert warning == f"{other.run_dir('one').path}: code has changed since the batch was generated: {used}\n"


def read_units(batch: Batch, name: str) -> str:
    """Return what a run would train with, as its job script says."""
    words = ["bash", batch.job_script_path, name, "--show"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    [shown] = [line for line in done.stdout.splitlines() if line.startswith("--model.units")]
    return shown.split()[1]


@pytest.mark.slow
def test_selected_runs_are_updated_to_the_current_code(batch: Batch, tmp_path: Path) -> None:
    changed = SCENARIO.replace("units: int = WIDTH", "units: int = WIDTH\n    depth: int = 3")
    (tmp_path / "mine.py").write_text(changed)
    done = experiments(tmp_path, "update", batch.path, "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{batch.path}/code_2: current code, used by 1 run: two\n"
    assert (batch.run_code_dir("one"), batch.run_code_dir("two")) == (batch.code_dir, batch.path / "code_2")
    assert (
        import_from_runs(tmp_path, batch.run_dir("one").path, batch.run_dir("two").path)[0] == "5\n5\n"
    )  # one process, one code
    assert import_from_runs(tmp_path, batch.run_dir("two").path) == ("6\n", "")
    again = experiments(tmp_path, "update", batch.path, "one")  # nothing has changed since
    assert again.stdout == f"{batch.path}/code_2: current code, used by 1 run: one\n"
    run_code_name_path(batch.path, "one").unlink()
    assert not (batch.path / "code_3").exists()
    (tmp_path / "helper.py").write_text("WIDTH = 7\n")
    (tmp_path / "new.yaml").write_text("scenario: mine.py\nconfigurations: {deep: {model.depth: 4}}\n")
    rejected = experiments(tmp_path, "add", batch.path, "new.yaml")
    assert rejected.stderr.startswith("experiments: new.yaml, line 2: --model.depth: unknown flag")
    done = experiments(tmp_path, "add", batch.path, "new.yaml", "--new_code")
    assert done.returncode == 0, done.stderr
    assert [read_units(batch, name) for name in ("one", "two", "deep")] == ["5", "5", "7"]
    assert batch.run_code_dir("deep") == batch.path / "code_3"
    (batch.path / "jobs" / "deep.code").write_text("code_9\n")
    done = subprocess.run(["bash", batch.job_script_path, "deep"], capture_output=True, text=True, check=False)
    assert done.stderr == f"job.sh: {batch.path}/jobs/deep.code: no directory {batch.path}/code_9\n"


def test_code_incompatible_with_selected_runs_is_rejected(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCENARIO.replace("units: int", "width: int"))
    done = experiments(tmp_path, "update", batch.path, "one")
    assert done.returncode == 2
    assert done.stderr.startswith(f"experiments: {batch.params_path('one')}: model.units: unknown flag")
    (tmp_path / "mine.py").write_text(SCENARIO)
    with batch.lock():
        write_ticket(batch, "one", make_ticket())
    done = experiments(tmp_path, "update", batch.path, "*")
    assert done.stderr == f"experiments: {batch.path}: active runs: one; stop them with `experiments cancel`\n"
    assert not (batch.path / "code_2").exists()
    assert experiments(tmp_path, "update", batch.path).stderr.startswith("experiments: missing argument RUN. usage: ")
