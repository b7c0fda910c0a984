"""Comparison of Keras scripts with the scenarios made of them.

python -m scripts.from_keras.compare [NAME ...] --seeds 3

Trains each pair with some seeds, in turn, and prints the table of docs/how-to/from-keras.md, about fifteen minutes on
two cores. Lines are those of code, without blank lines, comments and docstrings, and one for each command; seconds are
CPU seconds of whole processes, which depend little on what else runs. Needs scikit-learn and TensorFlow.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
IGNORED_TOKENS = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclass(frozen=True)
class Pair:
    """Keras script and the scenario made of it."""

    name: str
    metric: str
    """Value of the best epoch in history.csv that the script also prints."""
    tolerance: float
    """Largest difference of the results for one seed, at least twice the range over seeds."""
    commands: tuple[str, ...] = ("--trainer.output_dir run",)
    """Flags of each training; the last one has the result."""

    @property
    def script(self) -> Path:
        """Return the file of the Keras script."""
        return FOLDER / f"{self.name}_keras.py"

    @property
    def scenario(self) -> Path:
        """Return the file of the scenario."""
        return FOLDER / f"{self.name}_scenario.py"


NEW_HEAD = "--data.first 5 --data.size 100 --trainer.epochs 30 --trainer.output_dir"
PAIRS = (
    Pair(
        "transfer",
        "val_accuracy",
        0.05,
        (
            "--trainer.output_dir first",
            f"{NEW_HEAD} head --warmstart.model first --warmstart.include ^base/ --trainer.no_train_scope base "
            "--learning_rate.lr 0.03",
            f"{NEW_HEAD} run --warmstart.model head --trainer.no_train_scope base/batch_normalization",
        ),
    ),
    Pair("texts", "val_accuracy", 0.05),
    Pair("gan", "val_distance", 2.0),
    Pair("vae", "val_loss", 0.5),
    Pair("timeseries", "val_mae", 0.05),
)


@dataclass(frozen=True)
class Outcome:
    """Result of a training and the CPU seconds of its processes."""

    result: float
    seconds: float


def run_script(pair: Pair, seed: int, folder: Path) -> Outcome:
    """Run the Keras script in a folder."""
    begin = _cpu_seconds()
    output = _run([sys.executable, str(pair.script), str(seed)], folder)
    (result,) = re.findall(r"^result: (.+)$", output, re.MULTILINE)
    return Outcome(float(result), _cpu_seconds() - begin)


def run_scenario(pair: Pair, seed: int, folder: Path) -> Outcome:
    """Train the scenario in a folder."""
    begin = _cpu_seconds()
    program = str(Path(sys.executable).parent / "train-scenario")
    for flags in pair.commands:
        _run([program, str(pair.scenario), "--trainer.random_seed", str(seed), *shlex.split(flags)], folder)
    seconds = _cpu_seconds() - begin
    best = json.loads((folder / "run" / "summary.json").read_text())["best"]["epoch"]
    with (folder / "run" / "history.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if float(row["epoch"]) == best)
    return Outcome(float(row[pair.metric]), seconds)


def _cpu_seconds() -> float:
    """Return the CPU seconds of all finished subprocesses."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(command: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return done.stdout


def count_lines(code: str) -> int:
    """Return the number of lines of code, without blank lines, comments and docstrings."""
    texts = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type not in IGNORED_TOKENS]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len(lines.difference(*texts))


def make_row(pair: Pair, before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """Return a row of the table: results as mean and range, seconds as medians."""
    lines = count_lines(pair.script.read_text()), count_lines(pair.scenario.read_text()) + len(pair.commands)
    cells = [pair.name, *map(str, lines), f"`{pair.metric}`"]
    for outcomes in (before, after):
        results = [outcome.result for outcome in outcomes]
        cells.append(f"{statistics.mean(results):.3g} ({min(results):.3g} to {max(results):.3g})")
    cells += [f"{statistics.median(outcome.seconds for outcome in outcomes):.0f}" for outcomes in (before, after)]
    return f"| {' | '.join(cells)} |"


def compare(pair: Pair, seeds: int) -> str:
    """Train both sides of a pair with some seeds, in turn; return the row of the table."""
    before, after = [], []
    for seed in range(1, seeds + 1):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            before.append(run_script(pair, seed, Path(one)))
            after.append(run_scenario(pair, seed, Path(other)))
    return make_row(pair, before, after)


def main() -> None:
    """Print the table."""
    names = [pair.name for pair in PAIRS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"pairs, by default all: {', '.join(names)}")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(names):
        parser.error(f"{', '.join(unknown)}: not a pair; choose from {', '.join(names)}")
    print("| | lines before | after | result | before | after | CPU seconds before | after |")
    print("|---|---|---|---|---|---|---|---|")
    for pair in PAIRS:
        if not arguments.names or pair.name in arguments.names:
            print(compare(pair, arguments.seeds), flush=True)


if __name__ == "__main__":
    main()
