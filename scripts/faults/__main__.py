"""Fault-injection campaigns: interrupt runs, resume them and compare results bit for bit with uninterrupted ones.

    python scripts/faults [--signals] [--files] [--operations] [--scenarios] [--slice] [--parallel 2] [--folder FOLDER]

Without a choice, all campaigns run. `--slice` runs a small part of them, with each signal, phase and pipeline.
The exit code is 1 if anything is wrong; the runs and logs of what failed are kept in the folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.faults import files, operations, shipped, signals
from scripts.faults.server import ForkServer, start_servers
from scripts.faults.table import format_table

CAMPAIGNS = ("signals", "files", "operations", "scenarios")
NUM_SLICE_INJECTIONS = 1
"""Operations that `--slice` hits with each kind of fault; each requires two runs."""


def main() -> None:
    """Run the campaigns and print their tables."""
    parser = argparse.ArgumentParser(prog="python scripts/faults", description=(__doc__ or "").partition("\n")[0])
    for name in CAMPAIGNS:
        parser.add_argument(f"--{name}", action="store_true", help=f"run this campaign: {HELP[name]}")
    parser.add_argument("--slice", action="store_true", help="run a part that takes a minute")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--stride", type=int, default=1, help="hit every n-th file operation only (default: 1)")
    parser.add_argument("--cells", default="", help="run only these cells of the signals: 10-19,42")
    backends = ("tensorflow", "jax", "torch")
    parser.add_argument(
        "--backend", choices=backends, default="tensorflow", help="of the signals (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = options.backend
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in CAMPAIGNS if getattr(options, name)] or list(CAMPAIGNS)
    if options.slice and len(chosen) == len(CAMPAIGNS):
        chosen.remove("scenarios")
    environment = {}
    if "files" in chosen and files.compiler() is not None:
        environment["LD_PRELOAD"] = str(files.compile_library(folder))
    wrong, texts = 0, []
    with start_servers(options.parallel if chosen != ["operations"] else 0, environment) as warm:
        for name in chosen:
            begin = time.monotonic()
            text, faults = RUNNERS[name](folder / name, options, warm)
            texts.append(f"{name} ({(time.monotonic() - begin) / 60:.1f} min)\n\n{text}\n")
            wrong += faults
    print("\n" + "\n".join(texts))
    print(f"{wrong} faults; their runs are in {folder}" if wrong else "no faults")
    sys.exit(bool(wrong))


def run_signals(folder: Path, options: argparse.Namespace, warm: Sequence[ForkServer]) -> tuple[str, int]:
    """Return the table of counts and the number of faults."""
    cells = signals.slice_of_cells() if options.slice else signals.cells_of_backend(options.backend)
    if options.cells:
        cells = [cell for cell in cells if cell.number in parse_ranges(options.cells)]
    verdicts = signals.Campaign(folder, warm).run(cells)
    return signals.counts(verdicts), sum(bool(verdict.faults) for verdict in verdicts)


def run_files(folder: Path, options: argparse.Namespace, warm: Sequence[ForkServer]) -> tuple[str, int]:
    """Return the table of counts and the number of faults."""
    if files.compiler() is None:
        return "not run: there is no C compiler (gcc or cc) for the library that makes operations fail", 0
    campaign = files.Campaign(folder, warm)
    stride = len(campaign.operations) // NUM_SLICE_INJECTIONS if options.slice else options.stride
    verdicts = campaign.run(campaign.hits(stride))
    return files.counts(verdicts), sum(bool(verdict.fault) for verdict in verdicts)


def run_operations(folder: Path, options: argparse.Namespace, warm: Sequence[ForkServer]) -> tuple[str, int]:
    """Return the counts and the number of dangerous operations that are allowed."""
    found = operations.count()
    rows = [
        ("allowed", len(found.allowed)),
        ("rejected", len(found.rejected)),
        ("dangerous, rejected", len(found.dangerous_rejected)),
        ("dangerous, allowed", len(found.dangerous_allowed)),
    ]
    names = f"\n\nallowed: {', '.join(found.dangerous_allowed)}" if found.dangerous_allowed else ""
    return format_table(["operations", "count"], rows) + names, len(found.dangerous_allowed)


def run_scenarios(folder: Path, options: argparse.Namespace, warm: Sequence[ForkServer]) -> tuple[str, int]:
    """Return the table of results and the number of faults."""
    found = shipped.run(folder, warm)
    rows = [(name, *(results[fault] for fault in shipped.FAULTS)) for name, results in found.items()]
    wrong = sum(result != "ok" for results in found.values() for result in results.values())
    return format_table(["scenario", *shipped.FAULTS], rows), wrong


def parse_ranges(text: str) -> set[int]:
    """Return the numbers in a list of ranges: 10-19,42."""
    ends = [part.split("-") for part in text.split(",")]
    return {number for first, *last in ends for number in range(int(first), int(last[0] if last else first) + 1)}


RUNNERS: dict[str, Callable[[Path, argparse.Namespace, Sequence[ForkServer]], tuple[str, int]]] = {
    "signals": run_signals,
    "files": run_files,
    "operations": run_operations,
    "scenarios": run_scenarios,
}
HELP = {
    "signals": "signals in every phase, for every pipeline and network",
    "files": "a kill, a full disk and an I/O error at every file operation",
    "operations": "all TensorFlow operations against those that exports may hold",
    "scenarios": "shipped scenarios",
}

if __name__ == "__main__":
    main()
