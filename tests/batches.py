"""Batches for tests of queues: their jobs are real processes that only sleep instead of training."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from command_server import REPOSITORY, shared_server

from tfaip_like._cli.experiments import experiments as main
from tfaip_like.experiments._batches.batch import Batch

JOB = """\
#!/bin/bash
# Stands for a training: says when it begins and ends, fails if it is called so, saves when a signal stops it.
batch=$(cd "$(dirname "$0")" && pwd); run=$1; out="$batch/runs/$run"
mkdir -p "$out"
note() { echo "$1 $run gpu=$CUDA_VISIBLE_DEVICES" >>"$batch/events"; }
say() {  # when there is room on the disk
    local json="{\\"format_version\\": 1, \\"status\\": \\"$1\\", \\"host\\": \\"here\\", \\"pid\\": $$}"
    until echo "$json" 2>/dev/null >"$out/.new"; do [ -d "$out" ] || exit 1; sleep 0.1; done
    mv "$out/.new" "$out/run.json"
}
save() { trap "" TERM USR1; mkdir -p "$out/checkpoints/$RANDOM$RANDOM"; note "$1"; say stopped; exit 143; }
trap 'save stop' TERM
trap 'save near' USR1
tenths=$(cat "$batch/tenths")
note begin; say running
for i in $(seq "$tenths"); do sleep 0.1; done
while [ -e "$batch/hold" ]; do sleep 0.1; done
case $run in
  bad*) echo "train-scenario: this one is bad"; note fail; exit 1;;
  dead*) kill -9 $$;;
esac
note end; say done
"""

PLAN = """\
scenario: experts
description: jobs that take no time
configurations:
"""
MINE = """\
class Nothing(Data):
    inputs = {"x": Spec((2,))}
    def source(self, mode):
        return []

class Line(Model):
    units: int = WIDTH
    def build(self, inputs):
        return inputs
    def loss(self, inputs, targets, outputs):
        return {}

class Mine(Scenario):
    data: Data = Nothing()
    model: Model = Line()
"""
"""Scenario that trains nothing; it needs `from helper import WIDTH` and the names of tfaip_like before it."""


def make_fake_batch(folder: Path, configurations: str, tenths: int = 2) -> Batch:
    """Return a batch with these configurations, whose jobs take this many tenths of a second."""
    (folder / "plan.yaml").write_text(PLAN + configurations)
    with contextlib.chdir(folder):
        main(["generate", "plan.yaml"])  # in this process, which knows the scenario already
    batch = Batch(folder / "batches" / "plan" / "version_1")
    batch.job_script_path.write_text(JOB)
    (batch.path / "tenths").write_text(str(tenths))
    return batch


STARTING = """\
import os
import time
from pathlib import Path

from experts import Experts as Base

HERE = Path(__file__).parents[4]  # of code/starting.py in a batch


class Experts(Base):
    pass


if "TFAIP_LIKE_BATCH" in os.environ:
    (HERE / "starting").touch()
    while not (HERE / "moved").exists():
        time.sleep(0.01)
"""
"""A scenario whose runs wait while they start."""


def move_while_a_run_starts(folder: Path, *submission: str) -> Batch:
    """Submit a run, and move its batch after the run has imported its code; return the batch as it was."""
    (folder / "starting.py").write_text(STARTING)
    (folder / "plan.yaml").write_text(PLAN.replace("experts", "starting") + "  wide: {}\n")
    assert experiments(folder, "generate", "plan.yaml").returncode == 0
    batch = Batch(folder / "batches" / "plan" / "version_1")
    assert experiments(folder, "submit", batch.path, *submission).returncode == 0
    wait_until((folder / "starting").exists)
    moved = Batch(batch.path.rename(folder / "moved"))
    wait_until(lambda: "was moved or deleted" in moved.log_path("wide").read_text())
    return batch


def experiments(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return shared_server().run("experiments", *words, cwd=folder, environment=environment())


def command(*words: object) -> list[str]:
    """Return the words that start the command, as its console script does (-P: the current folder is not its own)."""
    return [sys.executable, "-P", "-m", "tfaip_like._cli.experiments", *map(str, words)]


def environment() -> dict[str, str]:
    """Return the environment of the tests, in which the scenarios of the tests are found."""
    paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "100"}


def events(batch: Batch) -> list[str]:
    """Return the notes of the jobs: `begin wide.01`."""
    path = batch.path / "events"
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def states(batch: Batch) -> dict[str, str]:
    """Return the state of each run, as the command shows it."""
    [shown] = json.loads(experiments(batch.path, "show", batch.path, "--json").stdout)
    return {run["name"]: run["state"] for run in shown["runs"]}


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.05)
