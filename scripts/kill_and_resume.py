"""Kills trainings at random moments, goes on with them, and compares them with one that was never killed.

Each run of the tutorial scenario (dropout, augmentation, shuffling, averaged weights, warm-up) is killed at a
random moment, also while it starts or writes a checkpoint, resumed, and killed again, a few times; then it
is resumed to its end. All variables of its last checkpoint, its history, its best values and its exported weights must
equal those of the uninterrupted run bit for bit.

    python scripts/kill_and_resume.py [--runs 50] [--kills 3] [--signal KILL] [--processes 0] [--parallel 2]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parent.parent
TIMED = ("seconds", "samples_per_second", "input_bound", "memory_mb")
FLAGS = [
    *("--trainer.epochs", "5", "--trainer.random_seed", "11", "--trainer.checkpoint_every", "20steps"),
    *("--trainer.calc_ema", "0.95", "--data.processors", "Shift", "--model.dropout", "0.3"),
    *("--learning_rate", "CosineDecay", "--learning_rate.warmup_epochs", "1.5", "--early_stopping.n_to_go", "50"),
    *("--trainer.steps_per_execution", "4"),
]


@dataclass(frozen=True)
class Outcome:
    """What must not depend on interruptions."""

    arrays: dict[str, Any]
    history: list[dict[str, str]]
    best: dict[str, float]

    @classmethod
    def of(cls, run: Path) -> Outcome:
        """The outcome of a finished run."""
        last = sorted((run / "checkpoints").glob("epoch_*"))[-1]
        with np.load(last / "variables.npz") as saved:
            arrays = {name: saved[name] for name in saved.files}
        with (run / "history.csv").open() as file:
            rows = [{name: value for name, value in row.items() if name not in TIMED} for row in csv.DictReader(file)]
        metrics = json.loads((run / "best" / "metrics.json").read_text())
        return cls(arrays, rows, {name: value for name, value in metrics.items() if name not in TIMED})

    def differences(self, other: Outcome) -> list[str]:
        """What is not the same, by name."""
        found = [
            name
            for name in {**self.arrays, **other.arrays}
            if name not in self.arrays
            or name not in other.arrays
            or self.arrays[name].tobytes() != other.arrays[name].tobytes()
        ]
        found += ["history.csv"] if self.history != other.history else []
        return found + (["best/metrics.json"] if self.best != other.best else [])


class Starter:
    """Starts trainings as processes of their own, forked from one that has imported TensorFlow: that saves seconds."""

    def __init__(self, processes: int):
        self.processes = processes
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve"], cwd=REPOSITORY, stdin=-1, stdout=-1, text=True
        )

    def start(self, run: Path) -> Training:
        """Begins a run, or goes on with the one that is there."""
        if (run / "trainer_params.json").exists():
            words = ["resume-training", str(run)]
        else:
            flags = [*FLAGS, "--train.num_processes", str(self.processes), "--trainer.output_dir", str(run)]
            words = ["train-scenario", "scenarios.tutorial", *flags]
        pid = int(self._ask({"words": words, "log": str(run.with_suffix(".log"))}))
        return Training(pid, self)

    def wait(self) -> int:
        """The exit code of the training that was started last; negative for a signal that killed it."""
        return int(self._ask({"wait": True}))

    def _ask(self, task: dict[str, Any]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()


def serve() -> None:
    """The process that `Starter` talks to."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    from tfaip_like.cli import resume_training, train_scenario

    mains = {"resume-training": resume_training.main, "train-scenario": train_scenario.main}
    child = 0
    for line in sys.stdin:
        task = json.loads(line)
        if "wait" in task:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = task["words"]
            try:
                mains[sys.argv[0]]()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
        print(child, flush=True)


@dataclass(frozen=True)
class Training:
    """A running training."""

    pid: int
    starter: Starter

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False


def wait_for_a_bad_moment(training: Training, run: Path, draw: random.Random, seconds: float) -> str:
    """Waits until a random moment: some time, or the writing of a checkpoint."""
    if draw.random() < 0.5:
        end = time.monotonic() + draw.uniform(0, 1.2 * seconds)
        while time.monotonic() < end and training.is_running:
            time.sleep(0.005)
        return "at a random moment"
    skipped = draw.randrange(1, 12)
    known: set[Path] = set()
    while training.is_running and len(known) < skipped:
        known |= set((run / "checkpoints").glob(".epoch_*.new-*"))
        time.sleep(0.0005)
    time.sleep(draw.uniform(0, 0.01))
    return f"while checkpoint {len(known)} was written"


def one_run(
    run: Path, number: int, options: argparse.Namespace, reference: Outcome, seconds: float, starter: Starter
) -> list[str]:
    """Trains with at least one kill; what differs from the reference."""
    draw = random.Random(number)  # noqa: S311
    kills: list[str] = []
    while len(kills) < options.kills:
        training = starter.start(run)
        moment = wait_for_a_bad_moment(training, run, draw, seconds)
        os.kill(training.pid, getattr(signal, f"SIG{options.signal}"))
        if starter.wait() == 0:  # it was done before
            if kills:
                break
            shutil.rmtree(run)
            seconds *= 0.7
            continue
        kills.append(moment)
    tries = 0
    while starter.start(run) and starter.wait() != 0:
        tries += 1
        if tries > 2:
            return [f"could not be resumed, see {run.with_suffix('.log')}"]
    differences = Outcome.of(run).differences(reference)
    verdict = f"DIFFERS in {', '.join(differences[:5])}" if differences else "the same bits"
    print(f"run {number}: {verdict}; killed {'; '.join(kills) or 'never'}", flush=True)
    return differences


def main() -> None:
    """Runs the campaign; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first run, from which its moments are drawn"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT", "USR1"], default="KILL")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        starters = [Starter(options.processes) for _ in range(options.parallel)]
        begin = time.monotonic()
        starters[0].start(folder / "reference")
        if starters[0].wait() != 0:
            sys.exit((folder / "reference.log").read_text())
        seconds = time.monotonic() - begin
        reference = Outcome.of(folder / "reference")
        arrays, epochs = len(reference.arrays), len(reference.history)
        print(f"uninterrupted: {seconds:.0f} s, {arrays} arrays, {epochs} epochs", flush=True)
        numbers = iter(range(options.first, options.first + options.runs))

        def work(starter: Starter) -> list[list[str]]:
            return [
                one_run(folder / f"run_{number:03d}", number, options, reference, seconds, starter)
                for number in numbers
            ]

        with ThreadPoolExecutor(options.parallel) as pool:
            results = [result for one in pool.map(work, starters) for result in one]
    bad = sum(bool(result) for result in results)
    print(f"{options.runs - bad} of {options.runs} runs killed with SIG{options.signal} equal the uninterrupted one")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
