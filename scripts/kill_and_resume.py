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
SCRIPTS = Path(sys.executable).parent
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


def start(run: Path, processes: int) -> subprocess.Popen[bytes]:
    """Begins a run, or goes on with the one that is there."""
    if (run / "trainer_params.json").exists():
        command = [str(SCRIPTS / "resume-training"), str(run)]
    else:
        flags = [*FLAGS, "--train.num_processes", str(processes), "--trainer.output_dir", str(run)]
        command = [str(SCRIPTS / "train-scenario"), "scenarios.tutorial", *flags]
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)


def wait_for_a_bad_moment(process: subprocess.Popen[bytes], run: Path, draw: random.Random, seconds: float) -> str:
    """Waits until a random moment: some time, or the writing of a checkpoint."""
    if draw.random() < 0.5:
        end = time.monotonic() + draw.uniform(0, 1.2 * seconds)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.005)
        return "at a random moment"
    skipped = draw.randrange(1, 12)
    known: set[Path] = set()
    while process.poll() is None and len(known) < skipped:
        known |= set((run / "checkpoints").glob(".epoch_*.new-*"))
        time.sleep(0.0005)
    time.sleep(draw.uniform(0, 0.01))
    return f"while checkpoint {len(known)} was written"


def one_run(run: Path, number: int, options: argparse.Namespace, reference: Outcome, seconds: float) -> list[str]:
    """Trains with kills; what differs from the reference."""
    draw = random.Random(number)  # noqa: S311
    kills = []
    while len(kills) < options.kills:
        process = start(run, options.processes)
        moment = wait_for_a_bad_moment(process, run, draw, seconds)
        process.send_signal(getattr(signal, f"SIG{options.signal}"))
        code = process.wait(timeout=300)
        if code == 0:  # it was done before
            break
        kills.append(moment)
    tries = 0
    while start(run, options.processes).wait(timeout=900) != 0:
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
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT", "USR1"], default="KILL")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        if start(folder / "reference", options.processes).wait() != 0:
            sys.exit((folder / "reference.log").read_text())
        seconds = time.monotonic() - begin
        reference = Outcome.of(folder / "reference")
        print(
            f"uninterrupted: {seconds:.0f} s, {len(reference.arrays)} arrays, {len(reference.history)} epochs",
            flush=True,
        )
        with ThreadPoolExecutor(options.parallel) as pool:
            results = list(
                pool.map(
                    lambda number: one_run(folder / f"run_{number:03d}", number, options, reference, seconds),
                    range(options.runs),
                )
            )
    bad = sum(bool(result) for result in results)
    print(f"{options.runs - bad} of {options.runs} runs killed with SIG{options.signal} equal the uninterrupted one")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
