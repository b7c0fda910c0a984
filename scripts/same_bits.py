"""Record the numbers of short runs that cover every feature, and compare them after a change that must not alter any.

    python scripts/same_bits.py record before.json
    python scripts/same_bits.py compare before.json

`record` adds to the file: `--only NAME` records chosen runs again. A run is recorded as its history without times, a
hash of each variable of its last checkpoint and of its exports, and what its best model predicts. Bits depend on the
machine: record and compare on the same one. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.faults.outcome import Outcome
from scripts.faults.scenarios import write_lists
from scripts.faults.server import ForkServer, map_parallel, start_servers

TIMEOUT_S = 600.0
RUN_PLACEHOLDER = "RUN"
"""Stands for the directory of the run in the words of a command; INPUTS for a folder with files to train on."""
SHORT_RUN_FLAGS = {
    "--trainer.epochs": "2",
    "--trainer.random_seed": "7",
    "--trainer.jit_compile": "false",
    "--train.batch_size": "4",
}
OPTIMIZERS = (
    "SGD --optimizer.momentum 0.9 --optimizer.nesterov true",
    *("Adam", "AdamW", "Adamax", "AdaBelief", "RMSprop", "Nadam", "Lion", "Lamb", "Muon"),
    *("Adagrad", "Adadelta", "Adafactor", "Ftrl", "ScheduleFreeAdamW"),
)
SCHEDULES = (
    "Constant --learning_rate.warmup_epochs 1",
    *(
        "ExponentialDecay --learning_rate.decay 0.5",
        "CosineDecay",
        "PolynomialDecay --learning_rate.power 2",
        "OneCycle",
    ),
    *("PiecewiseConstant --learning_rate.boundaries 1 --learning_rate.factors 0.1", "InverseSqrt"),
    "ReduceOnPlateau --learning_rate.patience 1 --learning_rate.min_delta 10 --trainer.epochs 4",
)
NETWORKS = ("BatchNorm", "Recurrent", "VAE", "Plain", "BFloat16", "Custom")


def train_command(flags: str = "", scenario: str = "scripts.faults.scenarios:Arrays") -> str:
    """Return the command of a short training."""
    given = flags.split()
    short = [f"{flag} {value}" for flag, value in SHORT_RUN_FLAGS.items() if flag not in given]
    return " ".join(["train-scenario", scenario, *short, flags, "--trainer.output_dir", RUN_PLACEHOLDER])


@dataclass(frozen=True)
class Case:
    """A run to record: commands one after another, of which the last ones leave a finished run."""

    name: str
    commands: Sequence[str]


def make_cases() -> list[Case]:
    """Return all runs; a name stays what it is when flags and classes are renamed."""
    lists = "--train.lists INPUTS/train.lst --val.lists INPUTS/evaluate.lst"
    streams, ragged, files = (f"scripts.faults.scenarios:{name}" for name in ("Streams", "Processes", "Lists"))
    single = {
        "xla": train_command("--trainer.jit_compile true"),
        "eager": train_command("--trainer.force_eager true"),
        "average": train_command("--trainer.calc_ema 0.9"),
        "average, computed": train_command("--trainer.calc_ema -1 --optimizer SGD"),
        "accumulation": train_command("--trainer.accumulate_steps 2 --optimizer.clip_global_norm 0.5"),
        "clipping": train_command("--optimizer.clip_norm 0.1"),
        "clipping of elements": train_command("--optimizer.clip_value 0.01"),
        "weight decay": train_command("--optimizer.weight_decay 0.1 --optimizer.exclude_from_weight_decay bias"),
        "mixed bfloat16": train_command("--trainer.precision mixed_bfloat16"),
        "mixed float16": train_command("--trainer.precision mixed_float16 --model Plain"),
        "frozen layers": train_command("--trainer.no_train_scope dense"),
        "several steps at a time": train_command("--trainer.steps_per_execution 3 --trainer.checkpoint_every 3steps"),
        "early stop": train_command(
            "--trainer.epochs 6 --early_stopping.n_to_go 1 --early_stopping.monitor val_loss "
            "--early_stopping.mode min --early_stopping.min_delta 5"
        ),
        "load and validate": train_command("--trainer.lav_every_n 1"),
        "short epochs": train_command("--trainer.samples_per_epoch 10 --trainer.epochs 5"),
        "folds": train_command("--train.folds 4 --train.fold 2"),
        "limits": train_command("--train.limit 20 --val.limit 5 --train.shuffle false"),
        "cache": train_command("--train.cache memory"),
        "data processes": train_command("--train.num_processes 2"),
        "buckets": train_command("--train.buckets 2", ragged),
        "bounded batches": train_command(
            "--train.buckets 2 --train.max_batch_length 16 --train.num_processes 2", ragged
        ),
        "stream": train_command("--trainer.samples_per_epoch 32", streams),
        "stream, shuffled": train_command(
            "--trainer.samples_per_epoch 32 --train.shuffle_buffer 8 --train.num_processes 2 --train.buckets 2", streams
        ),
        "list files": train_command(lists, files),
        "ratios of lists": train_command(
            "--train.lists INPUTS/train.lst INPUTS/evaluate.lst --train.list_ratios 1 1 "
            "--val.lists INPUTS/evaluate.lst",
            files,
        ),
        "resampled": train_command(
            "--train.resample Normal --train.resample.target y --train.resample.mean 0 --train.resample.std 1"
        ),
        "one million weights": train_command("--trainer.epochs 1", "scenarios.tutorial"),
        "smallest": train_command("", "scenarios.minimal"),
        "two networks": train_command("--data.samples 64 --data.val_samples 16 --model.units 8", "scenarios.sequences"),
    }
    single |= {f"optimizer {flags.split()[0]}": train_command(f"--optimizer {flags}") for flags in OPTIMIZERS}
    single |= {f"schedule {flags.split()[0]}": train_command(f"--learning_rate {flags}") for flags in SCHEDULES}
    single |= {f"network {name}": train_command(f"--model {name}") for name in NETWORKS}
    resumed = {
        "resume": f"resume-training {RUN_PLACEHOLDER} --trainer.epochs 4",
        "resume from a chosen epoch": f"resume-training {RUN_PLACEHOLDER} --resume.epoch 1 --trainer.epochs 3",
        "resume with another optimizer": f"resume-training {RUN_PLACEHOLDER} --optimizer SGD --trainer.epochs 3",
        "resume with more data processes": (
            f"resume-training {RUN_PLACEHOLDER} --train.num_processes 2 --trainer.epochs 3"
        ),
    }
    twice = {
        name: [train_command("--trainer.keep_every_n 1 --trainer.calc_ema 0.9"), then] for name, then in resumed.items()
    }
    plan = [
        "experiments generate scripts/same_bits.yaml --folder INPUTS/batches",
        "train-scenario --params INPUTS/batches/same_bits/version_1/jobs/wide.02.json --trainer.output_dir "
        f"{RUN_PLACEHOLDER}",
    ]
    warm = [train_command().replace(RUN_PLACEHOLDER, "INPUTS/first"), train_command("--warmstart.model INPUTS/first")]
    return [
        *(Case(name, [command]) for name, command in single.items()),
        *(Case(name, commands) for name, commands in twice.items()),
        Case("warm start", warm),
        Case("plan", plan),
    ]


def record_case(folder: Path, server: ForkServer, case: Case) -> dict[str, str]:
    """Train a case; return the hashes of what it leaves, by their names."""
    run = folder / "run"
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    write_lists(inputs)
    for command in case.commands:
        words = [
            word.replace("INPUTS", str(inputs)).replace(RUN_PLACEHOLDER, str(run)) for word in shlex.split(command)
        ]
        run_to_completion(server, words, folder / "log")
    outcome = Outcome.read(run)
    found = {name: hash_bytes(content) for name, content in outcome.arrays.items()}
    found |= {f"epoch {number}": json.dumps(row) for number, row in enumerate(outcome.history, 1)}
    return found | {
        "predictions": hash_predictions(run, folder, server),
        "best": json.dumps(outcome.best, sort_keys=True),
    }


def hash_predictions(run: Path, folder: Path, server: ForkServer) -> str:
    """Return what the best model of a run says of its validation data."""
    run_to_completion(server, ["lav-scenario", run, "--dump", folder / "predictions.npz"], folder / "log")
    with np.load(folder / "predictions.npz") as arrays:
        return hash_bytes(b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays.files)))


def run_to_completion(server: ForkServer, words: Sequence[object], log: Path) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: when it fails.
    """
    code = server.start(words, log).wait(TIMEOUT_S)
    if code != 0:
        raise RuntimeError(f"exit code {code} of {shlex.join(map(str, words))}\n{log.read_text()[-2000:]}")


def hash_bytes(content: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="only cases with this in their names")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = [case for case in make_cases() if options.only in case.name]
    with tempfile.TemporaryDirectory(prefix="same-bits-") as folder, start_servers(options.parallel) as warm:

        def work(server: ForkServer, case: Case) -> dict[str, str]:
            try:
                found = record_case(Path(folder, case.name), server, case)
            except RuntimeError as error:
                print(f"{case.name}: FAILED: {error}", flush=True)
                return {}
            print(f"{case.name}: {len(found)} values", flush=True)
            return found

        found = {case.name: values for case, values in zip(chosen, map_parallel(warm, work, chosen), strict=True)}
    before = json.loads(options.file.read_text()) if options.file.exists() else {}
    if options.action == "record":
        options.file.write_text(json.dumps(before | found, indent=1) + "\n")
        sys.exit(not all(found.values()))
    differing = [
        f"{name}: {', '.join(find_differences(before.get(name, {}), values))}"
        for name, values in found.items()
        if before.get(name) != values
    ]
    print("\n".join(differing) or f"the same bits in {len(found)} runs")
    sys.exit(bool(differing))


def find_differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of values that are not the same, the first few."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [*names[:5], *(["..."] if len(names) > 5 else [])]


if __name__ == "__main__":
    main()
